# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while measuring, sealing and appraising. No exception of a TPM library leaves this package.

This module does not decide what happens next.
"""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class MeasureError(VmgateError):
    """The root of this package's errors."""

    code = "ME000"
    explanation = "Something could not be measured or appraised."


class TpmMissing(MeasureError):
    """There is no TPM where the configuration says, or it does not answer."""

    code = "ME001"
    exit = Exit.NOT_READY
    explanation = (
        "vmgate found no TPM 2.0 that answers. Switch the TPM on in the firmware setup and check that the resource "
        "manager device /dev/tpmrm0 is there; tests and demonstrations name a software TPM by its TCTI."
    )


class TpmFailed(MeasureError):
    """The TPM answered with an error that says nothing about trust."""

    code = "ME002"
    exit = Exit.NOT_READY
    explanation = "The TPM refused a command or lost it. The TPM's own reason and code are in the message."


class PcrInUse(MeasureError):
    """A PCR that vmgate needs was extended by somebody else in this boot."""

    code = "ME003"
    exit = Exit.NOT_READY
    explanation = (
        "PCR 12 and 13 must be untouched when vmgate measures for the first time in a boot. systemd extends PCR 12 "
        "with the kernel command line and credentials and PCR 13 with system extensions (systemd-sysext) where the "
        "host boots a unified kernel image with them. Stop that use and reboot."
    )


class QuoteRefused(MeasureError):
    """A quote does not prove what it should."""

    code = "ME004"
    exit = Exit.REFUSED
    explanation = (
        "A TPM quote is malformed, is not signed by the expected attestation key, does not answer the nonce, or does "
        "not cover the PCRs that the appraisal needs. Nothing that it carries was believed."
    )


class LogRefused(MeasureError):
    """A log is malformed, or it does not replay to what the TPM holds."""

    code = "ME005"
    exit = Exit.REFUSED
    explanation = (
        "A measurement log is not in its format, or its events do not add up to the PCR values of the TPM. "
        "Somebody changed the log, or extended the PCRs without it. Reboot to measure all anew."
    )


class SealShut(MeasureError):
    """The TPM did not open a key.

    Attributes:
        term: the part of the policy that was not met: ``state`` (PCR values), ``signature``, ``counter``, or
            ``policy`` where the TPM does not say which.
    """

    code = "ME006"
    exit = Exit.REFUSED
    explanation = (
        "The TPM opens the host's key only in a state that the publisher signed, for the host's security epoch. "
        "The host is not in such a state: something measured differently, the release is older than the epoch, or a "
        "second live switch happened in one boot. `vmgate measure show` tells what was measured; a reboot starts anew."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, term: str) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.term = term


class NotForThisTpm(MeasureError):
    """A key was made for another TPM, or this TPM was cleared since."""

    code = "ME007"
    exit = Exit.REFUSED
    explanation = (
        "A sealed key belongs to one TPM's storage key. It was copied from another host, or this TPM was cleared. "
        "What it protected opens with a recovery key only."
    )


class PolicyRefused(MeasureError):
    """A signed TPM policy is not what the publisher's policy key signed."""

    code = "ME008"
    exit = Exit.REFUSED
    explanation = "The signature of a TPM policy in a release does not verify with the release's policy keys."


class ResultRefused(MeasureError):
    """An attestation result is malformed, expired, or not signed by the expected verifier."""

    code = "ME009"
    exit = Exit.REFUSED
    explanation = (
        "An attestation result (EAR) does not verify: wrong signature or algorithm, expired, or not in its form."
    )


class KeyRefused(MeasureError):
    """A VM's wrapped key does not open with the host's key."""

    code = "ME010"
    exit = Exit.REFUSED
    explanation = "The wrapped key of a VM was changed, belongs to another VM, or was wrapped by another host."


class CorimRefused(MeasureError):
    """A CoRIM is not in the form that vmgate reads or writes."""

    code = "ME090"
    exit = Exit.REFUSED
    explanation = (
        "A CoRIM (reference values in CBOR) is malformed, of another profile, not in its one encoding, not valid at "
        "this time, or lacks what is asked of it. None of its values was used."
    )


class CorimUntrusted(MeasureError):
    """A CoRIM is not signed by whom the caller trusts."""

    code = "ME091"
    exit = Exit.REFUSED
    explanation = (
        "Reference values count only from whom you trust: a CoRIM must be signed by the key that you name. This one is "
        "not signed, or by another key. None of its values was used."
    )
