# SPDX-License-Identifier: Apache-2.0
"""The table decides: what no row has is nobody's, users keep to their VMs, and more roles never mean less."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotPermitted
from agent.roles import EVERY, FUNCTIONS, LISTS_VMS, STALE, Caller, Grant, Permit, require, seen, verb_of
from documents.local_api import Request
from documents.management import ADMINISTRATOR, OPERATOR, ROLES, USER, Function

VERBS = sorted(verb for function in FUNCTIONS for verb in function.verbs)


def somebody(*roles: str, vms: tuple[str, ...] = ("desk",)) -> Caller:
    grants = (Grant(role=role, kind="user", name="ann", vms=vms if role == USER else ()) for role in roles)
    return Caller(uid=1000, name="ann", grants=tuple(grants))


def allowed(caller: Caller, vm: str = "desk") -> set[str]:
    found = set()
    for verb in VERBS:
        named = vm if verb.startswith("vm/") and verb not in LISTS_VMS else None
        with suppress(NotPermitted):
            require(FUNCTIONS, caller, verb, named)
            found.add(verb)
    return found


def test_root_has_all_and_who_has_no_role_nothing() -> None:
    assert allowed(Caller(uid=0)) == set(VERBS)
    assert allowed(somebody()) == set()


def test_a_user_has_the_running_of_own_vms() -> None:
    own = {"vm/list", "vm/show", "vm/why", "vm/start", "vm/stop", "vm/kill", "vm/console", "vm/checkpoints"}
    assert allowed(somebody(USER)) == own
    assert allowed(somebody(USER), "vault") == {"vm/list"}
    assert allowed(somebody(USER), EVERY) == {"vm/list"}, "the sign for all is no VM's name"
    assert allowed(somebody(USER, vms=(EVERY,)), "vault") == own


def test_an_operator_runs_all_vms_and_changes_nothing_else() -> None:
    changing = {v for f in FUNCTIONS if f.changes for v in f.verbs}
    assert allowed(somebody(OPERATOR), "vault") & changing == {"vm/start", "vm/stop", "vm/kill"}


def test_an_administrator_has_all_but_libvirts_hook() -> None:
    left = set(VERBS) - allowed(somebody(ADMINISTRATOR))
    assert left == {verb for verb in VERBS if verb.startswith("gate/")}
    assert left == set(VERBS) - allowed(Caller(uid=1000, trusted=True)), "also whom the agent runs as"


@given(st.sets(st.sampled_from(sorted(ROLES))), st.sampled_from(sorted(ROLES)))
def test_more_roles_never_mean_less(roles: set[str], one: str) -> None:
    assert allowed(somebody(*roles)) <= allowed(somebody(*roles, one))


def test_a_verb_without_exactly_one_row_is_nobodys() -> None:
    with pytest.raises(NotPermitted, match="belongs to no management function"):
        require(FUNCTIONS, Caller(uid=0), "vm/sell", "desk")
    with pytest.raises(NotPermitted, match="belongs to no management function"):
        require((*FUNCTIONS, FUNCTIONS[0]), Caller(uid=0), "update/apply", None)


def test_a_verb_about_a_vm_that_names_none_is_refused_to_users() -> None:
    with pytest.raises(NotPermitted, match="not assigned"):
        require(FUNCTIONS, somebody(USER), "vm/start", None)


def test_a_list_tells_users_of_their_vms_only() -> None:
    own = Permit(uid=1000, vms=seen(FUNCTIONS, somebody(USER), "vm/list"))
    assert (own.sees("desk"), own.sees("vault")) == (True, False)
    for caller in (Caller(uid=0), somebody(OPERATOR), somebody(USER, OPERATOR), somebody(USER, vms=(EVERY,))):
        assert Permit(uid=caller.uid, vms=seen(FUNCTIONS, caller, "vm/list")).sees("vault")
    unknown: tuple[Function, ...] = ()
    assert not Permit(uid=1000, vms=seen(unknown, somebody(OPERATOR), "vm/list")).sees("vault")


@pytest.mark.parametrize("names", [("allow_stale",), ("reason",), ("allow_stale", "reason")])
def test_going_beyond_a_bundles_days_is_a_function_of_its_own(names: tuple[str, ...]) -> None:
    """Also with empty texts: the table is asked for what might be wanted."""
    arguments = (*((name, "") for name in names), ("bundle", "/b"))
    request = Request(verb="update/import", arguments=tuple(sorted(arguments)), actor="test")
    assert verb_of(request) == STALE
    assert verb_of(Request(verb="update/import", arguments=(("bundle", "/b"),), actor="test")) == "update/import"
