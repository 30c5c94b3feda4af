# SPDX-License-Identifier: Apache-2.0
"""The agent's verbs: what each request does, by name. One writer: what changes state holds one lock.

``vm/start`` and its like hold no lock while libvirt works, because libvirt's hook asks the gate meanwhile; nor does
``update/progress``, which is asked while an update holds it. This module holds no logic of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from agent.administration import Administration
from agent.attachment_service import AttachmentService
from agent.break_glass import BreakGlass
from agent.errors import BadRequest, PolicyRefused
from agent.host import Host
from agent.host_status import host_status
from agent.identity import identity
from agent.local_verbs import LocalVerbs
from agent.offload.start import audit_status
from agent.server import Call, Handler
from agent.set_verbs import SetVerbs
from agent.sight import require_sight
from documents.canonical import Json
from documents.errors import VmgateError
from measure.pcr import LAUNCH_PCR, VMM_PCR

MIN_NONCE, MAX_NONCE = 16, 64
"""Bytes of a verifier's nonce."""

MAX_TIME = 12
"""Digits of a time in seconds."""


class Service:
    """Answers requests for one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.RLock()

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each verb."""
        host = self._host
        plain: dict[str, Callable[[], dict[str, Json]]] = {
            "status": self._status,
            "status/document": self._status_document,
            "update/history": host.updates.history,
            "update/progress": host.updates.transfer.told,
            "measure/show": self._measure_show,
            "measure/log": self._measure_log,
            "attest/self": self._attest_self,
            "attest/identity": self._identity,
            "config/show": host.approval.show,
            "recovery/show": host.recovery.show,
            "config/check": self._config_check,
            "attest/explain": host.prover.explain,
        }
        named: dict[str, Callable[[str], dict[str, Json]]] = {
            "vm/show": host.vms.show,
            "vm/start": host.vms.start,
            "vm/kill": host.vms.kill,
            "vm/console": host.vms.console,
            "vm/why": host.vms.why,
        }
        handlers: dict[str, Handler] = {
            "vm/list": self._vm_list,
            "vm/stop": self._stop,
            "vm/introspect": self._introspect,
            "update/check": self._check,
            "update/apply": lambda call: self._changed(call, lambda: host.updates.apply(call.actor)),
            "update/rollback": lambda call: self._changed(call, lambda: host.updates.roll_back(call.actor)),
            "update/import": self._import,
            "update/unattended": self._unattended,
            "update/pause": self._pause,
            "update/resume": self._resume,
            "attest/evidence": self._evidence,
            "attest/answer": self._answer,
            "config/approve": self._config_approve,
            "role/list": self._role_list,
            "role/grant": self._role_grant,
            "role/revoke": self._role_revoke,
            "banner/set": self._banner_set,
            "audit/list": self._audit_list,
            "recovery/install": self._recovery_install,
            "recovery/copies": self._recovery_copies,
            "recovery/use": self._recovery_use,
        }
        handlers |= self._hook_verbs() | self._of_fleet()
        local = LocalVerbs(host.local, host.store, self._lock, host.define_vms, host.signing.soon)
        handlers |= local.handlers()
        content = partial(host.authority.content_of, host.generation)
        sets = SetVerbs(host.sets, content, self._lock, host.signing.soon)
        handlers |= sets.handlers()
        handlers |= AttachmentService(host.attachments, self._lock).handlers()
        handlers |= {verb: partial(self._plain, answer) for verb, answer in plain.items()}
        handlers |= {verb: partial(self._named, answer) for verb, answer in named.items()}
        return handlers

    def _hook_verbs(self) -> dict[str, Handler]:
        launcher = self._host.launcher
        return {
            "gate/prepare": self._prepare,
            "gate/started": partial(self._told, launcher.started),
            "gate/stopped": partial(self._told, launcher.stopped),
            "gate/release": partial(self._told, launcher.stopped),
            "gate/reconnect": partial(self._told, launcher.reconnected),
            "gate/attach": self._not_ours,
            "gate/migrate": self._not_ours,
            "gate/restore": self._not_ours,
        }

    def _of_fleet(self) -> dict[str, Handler]:
        fleet = self._host.fleet
        return {
            "fleet/enroll": fleet.enroll,
            "fleet/leave": fleet.leave,
            "fleet/show": partial(self._plain, fleet.show),
            "fleet/sync": partial(self._plain, fleet.sync),
        }

    def _plain(self, answer: Callable[[], dict[str, Json]], call: Call) -> dict[str, Json]:
        call.finish()
        return answer()

    def _named(self, answer: Callable[[str], dict[str, Json]], call: Call) -> dict[str, Json]:
        name = call.take("name")
        call.finish()
        return answer(name)

    def _vm_list(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._host.vms.list(call.permit.sees)

    def _stop(self, call: Call) -> dict[str, Json]:
        name, seconds = call.take("name"), call.take("timeout")
        call.finish()
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 3600:
            raise BadRequest("the VM was not stopped", cause="the time-out is not 1 to 3600", remedy="use --timeout")
        return self._host.vms.stop(name, int(seconds))

    def _introspect(self, call: Call) -> dict[str, Json]:
        name, view = call.take("name"), call.take("view")
        call.finish()
        return self._host.introspection.look(name, view, call.actor)

    def _changed(self, call: Call, change: Callable[[], dict[str, Json]]) -> dict[str, Json]:
        call.finish()
        return self._change(change)

    def _change(self, change: Callable[[], dict[str, Json]]) -> dict[str, Json]:
        """Change the releases, then let libvirt know the VMs as they are defined now."""
        with self._lock:
            result = change()
            self._host.define_vms()
            self._host.signing.now()
            return result

    def _check(self, call: Call) -> dict[str, Json]:
        call.finish()
        with self._lock:
            return self._host.updates.check()

    def _import(self, call: Call) -> dict[str, Json]:
        bundle, days, reason = Path(call.take("bundle")), call.take("allow_stale", ""), call.take("reason", "")
        if not bundle.is_absolute():
            raise BadRequest("nothing was imported", cause="the path is not absolute", remedy="use the vmgate command")
        require_sight(bundle)
        if not days and not reason:
            return self._changed(call, lambda: self._host.updates.import_bundle(bundle, call.actor))
        call.require_fresh()
        glass = BreakGlass.parse(days, reason)
        return self._changed(call, lambda: self._host.updates.import_bundle(bundle, call.actor, glass))

    def _unattended(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._host.unattended.run(call.actor, self._change)

    def _pause(self, call: Call) -> dict[str, Json]:
        until, reason = call.take("until"), call.take("reason")
        call.finish()
        if not until.isdecimal() or len(until) > MAX_TIME:
            raise BadRequest("updates were not paused", cause="the end is not a time", remedy="use the vmgate command")
        return self._host.unattended.pause(int(until), reason, call.actor)

    def _resume(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._host.unattended.resume(call.actor)

    def _recovery_install(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        key, instead = call.take("key"), call.take("instead", "")
        call.finish()
        result = self._host.recovery.install(key.encode(), call.actor, instead=instead)
        self._host.signing.soon()
        return result

    def _recovery_copies(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        purpose = call.take("purpose")
        call.finish()
        if purpose not in ("test", "use"):
            raise BadRequest("no copy was handed out", cause="the purpose is unknown", remedy="use the vmgate command")
        return self._host.recovery.copies(purpose, call.actor)

    def _recovery_use(self, call: Call) -> dict[str, Json]:
        call.require_fresh()
        untrusted_keys = call.take("keys")
        call.finish()
        result = self._host.recovery.use(untrusted_keys.encode(), call.actor)
        self._host.signing.soon()
        return result

    def _prepare(self, call: Call) -> dict[str, Json]:
        name, untrusted_xml = call.take("name"), call.take("xml")
        call.finish()
        try:
            self._host.launcher.prepare(name, untrusted_xml.encode(), call.actor)
        finally:
            # libvirt waits for the answer: the records are durable, and their signature follows.
            self._host.signing.soon()
        return {"allowed": name}

    def _told(self, tell: Callable[[str, str], None], call: Call) -> dict[str, Json]:
        name, _ = call.take("name"), call.take("xml")
        call.finish()
        tell(name, call.actor)
        self._host.signing.soon()
        self._host.defining.soon()
        return {"allowed": name}

    def _not_ours(self, call: Call) -> dict[str, Json]:
        """What would bring a VM to life without its start: there is no signed form of it yet."""
        name = call.take("name")
        self._host.outside.audit.append("vm-start", "refused", name, call.actor, check="way-in")
        self._host.signing.soon()
        raise PolicyRefused(
            f"{name} was not started",
            cause="it was to be restored, migrated or attached to, which nobody signed",
            remedy=f"start it with `vmgate vm start {name}`",
        )

    def _status(self) -> dict[str, Json]:
        host = self._host
        generation = host.generation()
        verdict = host.verdict(generation) if generation else None
        trusted = verdict is not None and verdict.status != "contraindicated"
        libvirt, ready = self._libvirt()
        releases: list[Json] = [
            {"channel": release.channel, "number": release.number}
            for release in (generation.parsed() if generation else ())
        ]
        refused: list[Json] = [*sorted(set(host.launcher.refused))]
        software = host.outside.tpm.software()
        return {
            "ready": ready and generation is not None,
            "trusted": trusted and not refused and not host.watch.standing(),
            "tpm": "software TPM (no protection against its owner)" if software else "TPM",
            "libvirt": libvirt,
            "platform": verdict.status if verdict else "not appraised",
            "update": host.updates.state() if generation else "no release yet: run `vmgate update apply`",
            "local": host.own.told(),
            **audit_status(host.outside.audit, host.offload, refusals=host.refusals.alarm(host.outside.clock())),
            "level": verdict.level if verdict else host.platform.least_level,
            "releases": releases,
            "refused": refused,
            "faults": host.watch.told(),
            "vms": self._vms(),
            **host.unattended.status(),
        }

    def _status_document(self) -> dict[str, Json]:
        host = self._host
        status = host_status(host.outside, host.store, host.generation())
        return {"document": status.encode().decode()}

    def _vms(self) -> list[Json]:
        """What runs and what is installed; nothing is known of VMs while libvirt does not answer."""
        try:
            return [{"name": vm.name, **vm.members()} for vm, _, _ in self._host.vms.versions()]
        except VmgateError:
            return []

    def _libvirt(self) -> tuple[str, bool]:
        try:
            return f"libvirt {self._host.outside.hypervisor.version}", True
        except VmgateError as error:
            return f"{error.what}: {error.cause}", False

    def _measure_show(self) -> dict[str, Json]:
        tpm = self._host.outside.tpm
        pcrs: list[Json] = [
            {"pcr": index, "bank": bank, "value": value.hex()}
            for bank in tpm.banks()
            for index, value in tpm.read_pcrs(bank, (LAUNCH_PCR, VMM_PCR)).items()
        ]
        return {"pcrs": pcrs, **self._attest_self()}

    def _measure_log(self) -> dict[str, Json]:
        records: list[Json] = [
            {
                "recnum": record.number,
                "pcr": record.pcr,
                "event": record.content.event,
                "subject": record.content.subject,
                "fsverity": record.content.fsverity,
                "target": record.content.origin.target if record.content.origin else "",
                "version": record.content.origin.version if record.content.origin else "",
                "vtpm": record.content.vtpm,
            }
            for record in self._host.platform.records()
        ]
        return {"records": records, "cel": self._host.log.encode().decode()}

    def _attest_self(self) -> dict[str, Json]:
        generation = self._host.updates.require_active()
        return {"verdict": self._host.appraise(generation).members()}

    def _identity(self) -> dict[str, Json]:
        return {"identity": identity(self._host.outside.tpm).encode().decode()}

    def _answer(self, call: Call) -> dict[str, Json]:
        untrusted_challenge = call.take("challenge")
        call.finish()
        return {"evidence": self._host.prover.answer(untrusted_challenge.encode()).encode().decode()}

    def _config_check(self) -> dict[str, Json]:
        with self._lock:
            return self._host.approval.check()

    def _config_approve(self, call: Call) -> dict[str, Json]:
        shown = call.take("shown")
        call.finish()
        call.require_fresh()
        with self._lock:
            try:
                return self._host.approval.approve(shown, call.actor)
            finally:
                self._host.sign_audit()

    def _administration(self) -> Administration:
        return Administration(self._host.outside.paths, self._host.outside.audit)

    def _role_list(self, call: Call) -> dict[str, Json]:
        call.finish()
        return self._administration().list()

    def _role_grant(self, call: Call) -> dict[str, Json]:
        role, kind, name, vms = call.take("role"), call.take("kind"), call.take("account"), call.take("vms", "")
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._administration().grant(role, kind, name, vms, call.actor)

    def _role_revoke(self, call: Call) -> dict[str, Json]:
        role, kind, name = call.take("role"), call.take("kind"), call.take("account")
        call.finish()
        call.require_fresh()
        with self._lock:
            return self._administration().revoke(role, kind, name, call.actor)

    def _banner_set(self, call: Call) -> dict[str, Json]:
        text = call.take("text")
        call.finish()
        with self._lock:
            return self._administration().set_banner(text, call.actor)

    def _audit_list(self, call: Call) -> dict[str, Json]:
        last = call.take("last")
        call.finish()
        return self._administration().audit(last)

    def _evidence(self, call: Call) -> dict[str, Json]:
        untrusted_nonce = call.take("nonce")
        call.finish()
        try:
            nonce = bytes.fromhex(untrusted_nonce)
        except ValueError:
            nonce = b""
        if not MIN_NONCE <= len(nonce) <= MAX_NONCE:
            raise BadRequest(
                "no evidence was made",
                cause=f"the nonce has not {MIN_NONCE} to {MAX_NONCE} bytes",
                remedy="`vmgate attest nonce` makes one",
            )
        return {"evidence": self._host.prover.evidence(nonce).encode().decode()}
