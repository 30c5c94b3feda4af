# SPDX-License-Identifier: Apache-2.0
"""Evidence of this host for a verifier: a quote, and the logs that explain it. This module judges nothing."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace

from agent.boot_logs import BootLogs
from agent.collection import told
from agent.host_own import HostOwn
from agent.identity import open_challenge
from documents.canonical import Json
from documents.errors import VmgateError
from documents.evidence import Evidence
from measure.boot_files import IMA_PCR
from measure.log import MeasurementLog
from measure.pcr import BOOT_PCRS, LAUNCH_PCR, VMM_PCR
from measure.tpm import Tpm

log = logging.getLogger(__name__)


class Prover:
    """Makes evidence.

    Args:
        tpm: quotes.
        events: this boot's measurement log.
        before: logs of what ran before vmgate.
        own: what is this host's alone.
        asked: what the signed policy asks to be told besides what always is.
        measure_again: measures what is local to this host where it changed since.
    """

    def __init__(
        self,
        tpm: Tpm,
        events: MeasurementLog,
        before: BootLogs,
        own: HostOwn,
        asked: Callable[[], frozenset[str]],
        measure_again: Callable[[], None],
    ) -> None:
        self._tpm = tpm
        self._log = events
        self._before = before
        self._own = own
        self._policy_asks = asked
        self._measure_again = measure_again

    def answer(self, untrusted_challenge: bytes) -> Evidence:
        """Evidence that answers a verifier's challenge, with the identity that it asks about."""
        nonce, identity = open_challenge(self._tpm, untrusted_challenge)
        return replace(self.evidence(nonce), identity=identity.encode())

    def evidence(self, nonce: bytes) -> Evidence:
        """A quote over a verifier's nonce, and the logs that explain it.

        What ran before vmgate is told as far as the platform's signed policy asks for it.
        """
        tpm, asked = self._tpm, self.asked()
        boot_log = self._before.boot() if "boot_log" in asked else b""
        before = [pcr for pcr in BOOT_PCRS if pcr != IMA_PCR or "ima" in asked] if boot_log else []
        # What changed since it was measured is measured before it is quoted.
        self._measure_again()
        # Under the lock that extends hold: quote and log must be of one moment.
        with tpm.lock:
            attest, signature = tpm.quote(nonce, {"sha256": (*before, LAUNCH_PCR, VMM_PCR)})
            ak, cel = tpm.create_ak(), self._log.encode()
        return Evidence(
            attest=attest,
            signature=signature,
            ak=ak,
            boot_log=boot_log,
            ima=self._before.ima() if IMA_PCR in before else b"",
            cel=cel,
            baseline=self._own.baselines.stored(),
            command_line=self._own.local.command_line() if "command_line" in asked else b"",
        )

    def asked(self) -> frozenset[str]:
        """What the signed policy asks to be told besides what always is; nothing where it cannot be read."""
        try:
            return self._policy_asks()
        except VmgateError as error:
            log.warning("the security policy was not read, so that no log of the boot is told: %s", error)
            return frozenset()

    def explain(self) -> dict[str, Json]:
        """What evidence would hold now, with sizes; it is made over a nonce of nobody's and goes nowhere."""
        return {"parts": told(self.evidence(secrets.token_bytes(32)), self.asked())}
