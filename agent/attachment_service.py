# SPDX-License-Identifier: Apache-2.0
"""The agent's verbs about what a host offers to its VMs; see ``agent.service``, whose lock is held by what changes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from agent.attachments import Attachments
from agent.errors import BadRequest
from agent.server import Call, Handler
from documents.canonical import Json
from documents.fields import NAME
from documents.host_networks import NAT

MAX_VM = 63
"""Characters of a VM's name."""


class AttachmentService:
    """Answers requests for one host.

    Args:
        attachments: of this host.
        lock: held by whoever changes something.
    """

    def __init__(self, attachments: Attachments, lock: AbstractContextManager[bool]) -> None:
        self._networks = attachments.networks
        self._devices = attachments.devices
        self._lock = lock

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        return {
            "net/list": self._net_list,
            "net/show": self._net_show,
            "net/create": self._net_create,
            "net/delete": self._net_delete,
            "device/list": self._device_list,
            "device/show": self._device_show,
            "device/add": self._device_add,
            "device/remove": self._device_remove,
            "device/grant": self._device_grant,
            "device/eject": self._device_eject,
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

    def _device_list(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._devices.list()

    def _device_show(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        return self._devices.show(name)

    def _device_add(self, call: Call) -> dict[str, Json]:
        untrusted: dict[str, Json] = {"name": call.take("name"), "kind": call.take("kind")}
        medium = call.take("medium", "")
        # What is not given is not there; what does not belong to the kind is refused with it.
        for member in ("vendor", "product", "serial", "address"):
            if text := call.take(member, ""):
                untrusted[member] = text
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._devices.add(untrusted, medium, call.actor)

    def _device_remove(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._devices.remove(name, call.actor)

    def _device_grant(self, call: Call) -> dict[str, Json]:
        name, vm = call.take("name"), call.take("to")
        call.finish()
        call.require_fresh()
        if len(vm) > MAX_VM or not NAME.fullmatch(vm):
            raise BadRequest("the device was not granted", cause="that is no VM's name", remedy="see `vmgate vm list`")
        with self._lock:
            return self._devices.grant(name, vm, call.actor)

    def _device_eject(self, call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._devices.eject(name, call.actor)
