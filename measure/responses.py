# SPDX-License-Identifier: Apache-2.0
"""What a TPM's response code means for the host's keys.

Source: TPM 2.0 Library Part 2, clause 6.6 (response codes); which command gives which was found by running each case
on swtpm. The codes include the number of the parameter or session that the TPM complains about. No TPM is needed here.
"""

from __future__ import annotations

from collections.abc import Collection

from documents.errors import VmgateError
from keys.errors import PinWrong
from measure.errors import ChallengeRefused, NotForThisTpm, SealShut, TpmFailed, TpmMissing
from measure.pcr import ALGORITHMS

HANDLE = 0x18B
"""Nothing is at the handle."""

PCR_CHANGED = 0x128
"""A PCR was extended between a policy and its use: worth one more attempt."""

_TERMS = {
    0x1C4: ("state", "the PCR values are not those that the publisher signed"),
    0x2DB: ("signature", "the policy is not signed by the key, for the channel and epoch, that the host's key names"),
    0x126: ("counter", "the host's counter is past the value at which this key opens: an older release was shut out"),
    0x14A: ("counter", "the host's counter was never set"),
    HANDLE: ("counter", "the host's counter is not there"),
    0x99D: ("policy", "the key was sealed for another policy key, channel, epoch, counter or local state"),
    0x12F: ("policy", "the key does not open without its policy"),
    PCR_CHANGED: ("state", "PCRs were extended meanwhile, twice in a row"),
}

_FOREIGN = (0x1D5, 0x1DF, 0x3DF)
"""Size and integrity of what ``TPM2_Load`` is given."""


_PIN = {
    0x98E: "the PIN is wrong",
    0x921: "the TPM takes no PIN for a while, after too many wrong ones, or power cuts while such a key was used",
}


def shut(what: str, code: int, text: str) -> VmgateError:
    """The error for a key that a TPM did not open or use.

    Args:
        what: what did not happen.
        code: the TPM's response code.
        text: the response in the TPM library's words.
    """
    if code in _FOREIGN:
        return foreign(what, "it was made by another TPM, or this TPM was cleared since")
    if code in _PIN:
        remedy = "check the PIN before you try again: a TPM locks for a while after some wrong ones"
        return PinWrong(what, cause=_PIN[code], remedy=remedy)
    if code not in _TERMS:
        return failed(what, f"{text} ({code:#x})")
    term, cause = _TERMS[code]
    remedy = "look at `vmgate measure show`; go back to a signed release and reboot"
    return SealShut(what, cause=cause, remedy=remedy, term=term)


def foreign(what: str, cause: str) -> NotForThisTpm:
    """The error for a key that is not this TPM's."""
    return NotForThisTpm(
        what, cause=cause, remedy="put back the state folder of this host and TPM; a key of another TPM is lost"
    )


def not_ours(cause: str) -> ChallengeRefused:
    """The error for a challenge that is not for this TPM."""
    return ChallengeRefused(
        "the challenge was not answered",
        cause=cause,
        remedy="print the identity anew (`vmgate attest identity`) and ask for a new challenge",
    )


def failed(what: str, cause: str) -> TpmFailed:
    """The error for a TPM that did not do its work."""
    return TpmFailed(what, cause=cause, remedy="reboot, and look at `vmgate status`")


def bank_names(active: Collection[int]) -> tuple[str, ...]:
    """The names of PCR banks, sorted, given the TPM_ALG_ID of each that is active.

    Raises:
        TpmFailed: there is none, or one that vmgate cannot extend, so that it would stay open to forgery.
    """
    names = {number: name for name, number in ALGORITHMS.items()}
    if not active or not set(active) <= names.keys():
        raise failed("the PCR banks cannot be used", f"one is active that is not of {', '.join(ALGORITHMS)}")
    return tuple(sorted(names[number] for number in active))


def missing(tcti: str, cause: str) -> TpmMissing:
    """The error for a TPM that is not there."""
    return TpmMissing(
        f"no TPM answers at {tcti}",
        cause=cause,
        remedy="switch the TPM on in the firmware setup, or correct `tpm` in vmgate.toml",
    )
