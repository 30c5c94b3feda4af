# SPDX-License-Identifier: Apache-2.0
"""One replay for every log that vmgate reads: what is it, how many events, which PCR values does it claim.

The form is found from the bytes, but for IMA lists, which are read only when asked for. The result is what the log
claims; it proves nothing until it was compared with a verified quote. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from documents.canonical import Json
from measure import bootlog, cel, cel_cbor, ima, systemd_log
from measure.formats.cursor import refused

TCG_SHA1: Final = "tcg-sha1"
TCG_CRYPTO_AGILE: Final = "tcg-crypto-agile"
CCEL: Final = "ccel"
CEL_JSON: Final = "cel-json"
CEL_CBOR: Final = "cel-cbor"
IMA_ASCII: Final = "ima-ascii"
IMA_BINARY: Final = "ima-binary"
SYSTEMD: Final = "systemd"

FORMATS: Final = (TCG_SHA1, TCG_CRYPTO_AGILE, CCEL, CEL_JSON, CEL_CBOR, IMA_ASCII, IMA_BINARY, SYSTEMD)
"""Every name that ``Replayed.format`` can have; other programs are written against them."""

_LAST_CC_REGISTER: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a log claims.

    Attributes:
        format: one of ``FORMATS``.
        events: how many records the log has, those that extend nothing too.
        pcrs: values by bank and index: the PCRs that were extended, and PCR 0 where the log tells its start. In a
            CCEL the index is the log's measurement register: 0 is MRTD, 1 to 4 are RTMR 0 to 3. Of systemd's log, the
            values over those that the log before leads to, or over zeros.
        quirks: names of what in a boot log is accepted although not every log has it (``measure.quirks``).
    """

    format: str
    events: int
    pcrs: Mapping[str, Mapping[int, bytes]]
    quirks: tuple[str, ...] = ()

    def members(self) -> dict[str, Json]:
        """The result as `vmgate measure replay -o json` prints it; ``quirks`` is absent where there are none."""
        pcrs: dict[str, Json] = {
            alg: {str(index): values[index].hex() for index in sorted(values)} for alg, values in self.pcrs.items()
        }
        quirks: dict[str, Json] = {"quirks": list(self.quirks)} if self.quirks else {}
        return {"format": self.format, "events": self.events, "pcrs": pcrs, **quirks}


def replay_log(untrusted: bytes, untrusted_before: bytes | None = None) -> Replayed:
    """Replay a boot log (SHA-1 or crypto-agile), a CCEL, systemd's log, or vmgate's own in JSON or CBOR.

    Args:
        untrusted: the log.
        untrusted_before: a boot log that systemd's log goes on from; other logs start on their own.

    Raises:
        LogRefused: a log is not in the form that its first byte tells, or one goes before a log that starts on its own.
    """
    if _is_systemd(untrusted):
        return _replay_systemd(untrusted, untrusted_before)
    if untrusted_before is not None:
        raise refused("log", "another log goes before it, and only systemd's log goes on from a boot log")
    # A boot log starts with a PCR's index, and no TPM has a PCR 123, or one of 128 to 159.
    if untrusted.startswith(b"{"):
        return _replay_cel(CEL_JSON, cel.parse_log(untrusted))
    if cel_cbor.is_cbor(untrusted):
        return _replay_cel(CEL_CBOR, cel_cbor.parse_log(untrusted))
    return _replay_boot(untrusted)


def replay_ima(untrusted: bytes) -> Replayed:
    """Replay an IMA list, ASCII or binary.

    Raises:
        LogRefused: it is none, or an entry's digest is not that of its fields.
    """
    log = ima.parse_ima(untrusted)
    return Replayed(
        format=IMA_ASCII if log.ascii else IMA_BINARY,
        events=len(log.entries),
        pcrs=ima.replay(log),
    )


def _is_systemd(untrusted: bytes) -> bool:
    """Whether it starts as no boot log does: with 0x1e, which no TPM has as the lowest byte of an index of a PCR."""
    return untrusted.startswith(bytes([systemd_log.SEPARATOR]))


def _replay_systemd(untrusted: bytes, untrusted_before: bytes | None) -> Replayed:
    records = systemd_log.parse_systemd_log(untrusted)
    before = None if untrusted_before is None else bootlog.parse_boot_log(untrusted_before)
    pcrs = systemd_log.replay(records, bootlog.replay(before) if before else None)
    return Replayed(format=SYSTEMD, events=len(records), pcrs=pcrs, quirks=before.quirks if before else ())


def _replay_boot(untrusted: bytes) -> Replayed:
    log = bootlog.parse_boot_log(untrusted)
    pcrs = bootlog.replay(log)
    form = TCG_CRYPTO_AGILE if log.crypto_agile else TCG_SHA1
    # Nothing in a CCEL names it. It has one bank and five registers, where a PC's boot also extends PCR 5 and 7.
    registers = pcrs.get("sha384", {})
    if log.banks == ("sha384",) and registers and max(registers) <= _LAST_CC_REGISTER:
        form = CCEL
    return Replayed(format=form, events=len(log.events), pcrs=pcrs, quirks=log.quirks)


def _replay_cel(form: str, records: tuple[cel.CelRecord, ...]) -> Replayed:
    extended = {record.pcr for record in records}
    pcrs = {
        alg: {index: value for index, value in cel.replay(records, alg).items() if index in extended}
        for alg in (records[0].digests if records else ())
    }
    return Replayed(format=form, events=len(records), pcrs=pcrs)
