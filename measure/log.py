# SPDX-License-Identifier: Apache-2.0
"""The measurement log of this boot, kept in step with the TPM.

A record is durable before the TPM is extended, so after a crash the log is at most one record ahead; that record is
then completed. It is never behind: an extend without a record would be one that nobody can explain.

One file a boot, named by the TPM's count of resets. This module does not judge what was measured.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from content import durable
from content.errors import Missing
from documents.event import MeasuredEvent
from measure.cel import LOG_LIMIT, LOGGED, CelRecord, encode_record, parse_log, record, replay
from measure.errors import LogRefused, PcrInUse
from measure.pcr import reset_value
from measure.structures import Clock


class MeasuringTpm(Protocol):
    """The part of a TPM that a log needs; ``measure.tpm.Tpm`` is one."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held around what must not be interleaved."""
        ...

    def banks(self) -> tuple[str, ...]:
        """The active PCR banks."""
        ...

    def clock(self) -> Clock:
        """Clock and counts of starts."""
        ...

    def read_pcrs(self, alg: str, indexes: tuple[int, ...]) -> dict[int, bytes]:
        """Values of PCRs of one bank."""
        ...

    def extend(self, pcr: int, content: bytes) -> None:
        """Extend one PCR in all active banks."""
        ...


class MeasurementLog:
    """The log of this boot. Use ``open``. Threads may share it; processes may not.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path, tpm: MeasuringTpm) -> None:
        self.path = path
        self._tpm = tpm
        self._records: tuple[CelRecord, ...] = ()
        self._size = 0
        self._settled = False

    @classmethod
    def open(cls, directory: Path, tpm: MeasuringTpm) -> Self:
        """Open the log of this boot, or begin it.

        Raises:
            PcrInUse: there is no log yet, but PCR 12 or 13 was extended.
            LogRefused: the log does not replay to what the TPM holds.
            TpmFailed: the TPM did not answer.
            ContentError: the file could not be read or written.
        """
        durable.make_directory(directory)
        log = cls(directory / f"boot-{tpm.clock().reset_count:010d}.cel", tpm)
        log.recover()
        return log

    def records(self) -> tuple[CelRecord, ...]:
        """What was measured in this boot."""
        return self._records

    def encode(self) -> bytes:
        """The log as evidence carries it."""
        return b"".join(encode_record(entry) for entry in self._records)

    def extend(self, pcr: int, event: MeasuredEvent) -> CelRecord:
        """Log an event durably, then extend the TPM with it.

        Raises:
            LogRefused: the log is full, or an earlier failure left log and TPM apart.
            TpmFailed: the TPM did not answer; the record is completed at the next opening or extend.
            ContentError: the record could not be written; nothing was extended.
        """
        with self._tpm.lock:
            if not self._settled:
                self.recover()
            entry = record(len(self._records), pcr, event, self._tpm.banks())
            line = encode_record(entry)
            if self._size + len(line) > LOG_LIMIT:
                raise _refused("it is full")
            self._settled = False
            durable.append(self.path, line)
            self._tpm.extend(pcr, event.encode())
            self._records += (entry,)
            self._size += len(line)
            self._settled = True
            return entry

    def recover(self) -> None:
        """Read the log again and bring log and TPM together where a crash left the log one record ahead.

        Raises:
            PcrInUse: see ``open``.
            LogRefused: they are apart in any other way.
        """
        with self._tpm.lock:
            self._settled = False
            records = self._read()
            if not self._holds(records):
                if not records or not self._holds(records[:-1]):
                    raise self._apart(records)
                self._tpm.extend(records[-1].pcr, records[-1].content.encode())
                if not self._holds(records):
                    raise self._apart(records)
            self._records, self._settled = records, True
            self._size = len(self.encode())

    def in_step(self) -> bool:
        """Whether the TPM's PCRs are what this log replays to."""
        with self._tpm.lock:
            return self._holds(self._records)

    def _read(self) -> tuple[CelRecord, ...]:
        try:
            untrusted_log = durable.read_file(self.path, LOG_LIMIT)
        except Missing:
            return ()
        whole = untrusted_log.rfind(b"\n") + 1
        if whole < len(untrusted_log):
            # A cut while the last record was written: it was not whole, so the TPM was not extended with it.
            durable.truncate(self.path, whole)
        return parse_log(untrusted_log[:whole])

    def _holds(self, records: tuple[CelRecord, ...]) -> bool:
        """Whether each active bank of the TPM holds what these records replay to."""
        return all(self._tpm.read_pcrs(alg, LOGGED) == replay(records, alg) for alg in self._tpm.banks())

    def _apart(self, records: tuple[CelRecord, ...]) -> PcrInUse | LogRefused:
        if records:
            return _refused("it does not replay to the TPM's PCR 12 and 13")
        used = [
            str(pcr)
            for pcr in LOGGED
            if any(self._tpm.read_pcrs(alg, (pcr,))[pcr] != reset_value(alg, pcr) for alg in self._tpm.banks())
        ]
        return PcrInUse(
            f"PCR {' and '.join(used)} of the TPM cannot be used",
            cause="somebody else extended it in this boot, such as systemd (system extensions, credentials)",
            remedy="stop that use, or remove what systemd-sysext and systemd-creds load, and reboot",
        )


def _refused(cause: str) -> LogRefused:
    return LogRefused("the measurement log was refused", cause=cause, remedy="reboot the host to measure all anew")
