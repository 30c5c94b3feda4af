# SPDX-License-Identifier: Apache-2.0
"""The agent's verbs about what a host offers to its VMs; see ``agent.service``, whose lock is held by what changes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from agent.attachments import Attachments
from agent.errors import BadRequest
from agent.server import Call, Handler
from documents.canonical import Json
from documents.host_networks import NAT


class AttachmentService:
    """Answers requests for one host.

    Args:
        attachments: of this host.
        lock: held by whoever changes something.
    """

    def __init__(self, attachments: Attachments, lock: AbstractContextManager[bool]) -> None:
        self._networks = attachments.networks
        self._lock = lock

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        return {
            "net/list": self._net_list,
            "net/show": self._net_show,
            "net/create": self._net_create,
            "net/delete": self._net_delete,
        }

    def _net_list(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._networks.list()

    def _net_show(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        return self._networks.show(name)

    def _net_create(self, call: Call) -> dict[str, Json]:
        name, kind, subnet, dhcp = call.take("name"), call.take("kind"), call.take("subnet", ""), call.take("dhcp", "")
        call.finish()
        call.require_fresh()
        if dhcp not in ("", "yes", "no"):
            raise BadRequest("the network was not made", cause="dhcp is not yes or no", remedy="use the vmgate command")
        untrusted: dict[str, Json] = {"name": name, "kind": kind}
        if kind == NAT or subnet or dhcp:
            untrusted |= {"subnet": subnet, "dhcp": dhcp == "yes"}
        with self._lock:
            return self._networks.create(untrusted, call.actor)

    def _net_delete(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._networks.delete(name, call.actor)
