# SPDX-License-Identifier: Apache-2.0
"""Recovery is for root alone, and what comes from the command is bounded before a host is looked at."""

from __future__ import annotations

from typing import cast

import pytest

from agent.errors import BadRequest, NotPermitted
from agent.host import Host
from agent.paths import HostPaths
from agent.recovery import HostKeys, Recovery
from agent.roles import Permit
from agent.server import Call
from agent.service import Service
from documents.errors import DocumentError, DocumentTooLarge, VmgateError
from documents.local_api import Request
from documents.recovery import RecoveredKey, RecoveredKeys

NOBODY = cast(Host, None)
NEEDED = {"install": ("key", "instead"), "copies": ("purpose",), "use": ("keys",)}
KEY = RecoveredKey(uuid="3e2d9c1a-5b7f-4d21-8c3e-0123456789ab", copy="ab" * 32, key=b"\xa5" * 32)


def asked(verb: str, uid: int, **more: str) -> None:
    """What the agent does with a request; there is no host that it could change."""
    arguments = dict.fromkeys(NEEDED[verb], "") | more
    request = Request(verb=f"recovery/{verb}", arguments=tuple(sorted(arguments.items())), actor="test")
    call = Call(request, Permit(uid=uid, fresh=uid == 0))
    getattr(Service(NOBODY), f"_recovery_{verb}")(call)


@pytest.mark.parametrize("verb", NEEDED)
def test_who_is_not_root_is_refused_before_anything_is_looked_at(verb: str) -> None:
    with pytest.raises(NotPermitted):
        asked(verb, 1000)


@pytest.mark.parametrize("verb", NEEDED)
def test_another_argument_is_refused(verb: str) -> None:
    with pytest.raises(BadRequest):
        asked(verb, 0, passphrase="correct horse")


def test_copies_are_handed_out_for_a_purpose_only() -> None:
    with pytest.raises(BadRequest):
        asked("copies", 0, purpose="reading")


@pytest.mark.parametrize(
    ("untrusted", "error"),
    [
        (b"", DocumentError),
        (b"{}", DocumentError),
        (b"x" * (RecoveredKeys.LIMIT + 1), DocumentTooLarge),
        (RecoveredKeys(recovery="ab" * 32, keys=()).encode(), DocumentError),
        (RecoveredKeys(recovery="ab" * 32, keys=(KEY, KEY)).encode(), DocumentError),
    ],
    ids=["nothing", "no document", "too large", "no key", "one VM twice"],
)
def test_what_is_no_set_of_keys_is_refused_before_the_host_is_looked_at(
    untrusted: bytes, error: type[VmgateError], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = cast(HostKeys, HostKeys(vms=None, copies=None, audit=None, resealing=None))  # type: ignore[arg-type]
    recovery = Recovery(HostPaths(tmp_path_factory.getbasetemp()), keys, None, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(error):
        recovery.use(untrusted, "test")


def test_a_thousand_vms_fit_and_no_repr_shows_a_key() -> None:
    many = tuple(
        RecoveredKey(uuid=f"3e2d9c1a-5b7f-4d21-8c3e-{number:012d}", copy=KEY.copy, key=KEY.key)
        for number in range(1000)
    )
    keys = RecoveredKeys(recovery="ab" * 32, keys=many)
    assert RecoveredKeys.parse(keys.encode()) == keys
    assert repr(KEY.key) not in repr(keys) + repr(KEY)
