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


class CertificateMalformed(MeasureError):
    """Bytes that should be a TPM's certificate, or its issuer's, are none that can be read.

    Attributes:
        reason: ``size``, ``truncated``, ``der``, ``attribute-certificate``, ``key``, ``time`` or ``empty``.
    """

    code = "ME050"
    exit = Exit.REFUSED
    explanation = (
        "A certificate is truncated, too large, or no public key certificate: platform certificates, for one, are "
        "attribute certificates and hold no key. vmgate reads the malformed certificates of real vendors as far as "
        "their meaning is clear (padding and headers of the TPM's memory, unsorted names, odd serial numbers, keys "
        "marked for OAEP), and this one is not."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, reason: str) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.reason = reason


class CertificateUntrusted(MeasureError):
    """A TPM's certificate is well formed, and nobody whom the verifier trusts vouches for it.

    Attributes:
        reason: ``issuer``, ``signature``, ``algorithm``, ``validity``, ``authority``, ``key-usage``, ``path-length``,
            ``purpose``, ``extension``, ``revoked``, ``manufacturer``, ``key`` or ``work``.
    """

    code = "ME051"
    exit = Exit.REFUSED
    explanation = (
        "A TPM is known by the certificate of its endorsement key, and that by its vendor's root, which the verifier "
        "keeps in a folder. No path of valid, unrevoked certificates leads from one to the other, or the certificate "
        "is for something else. For a host whose certificate has run out, enrol the attestation key by hand (`--ak`)."
    )

    def __init__(self, what: str, *, cause: str, remedy: str, reason: str) -> None:
        super().__init__(what, cause=cause, remedy=remedy)
        self.reason = reason


class RootsUnusable(MeasureError):
    """The folder of vendors' roots is empty, or something in it cannot be read."""

    code = "ME052"
    exit = Exit.REFUSED
    explanation = (
        "`--ek-roots` names a folder with the certificates of TPM vendors (.pem, .crt, .cer, .der): either plainly, "
        "or in `chips/` and `software/`, and a list `revoked`. One file of it cannot be read, or it holds no root. "
        "Nothing was verified, since what could not be read may be what revokes a TPM."
    )


class IdentityRefused(MeasureError):
    """A host's identity does not hold together."""

    code = "ME053"
    exit = Exit.REFUSED
    explanation = (
        "A host shows its endorsement key, the certificate of that key, and its attestation key. One of them is not "
        "what it must be: another kind of key, a certificate of another key, or none at all."
    )


class ChallengeRefused(MeasureError):
    """A challenge is not for this TPM, or not as its verifier made it."""

    code = "ME054"
    exit = Exit.REFUSED
    explanation = (
        "A challenge can be opened by one TPM alone, which must hold both the endorsement key and the attestation key "
        "that the verifier saw. Print the identity anew (`vmgate attest identity`) and have a new challenge made."
    )


class BaselineRefused(MeasureError):
    """An approved baseline is not what this host's administrator approved."""

    code = "ME080"
    exit = Exit.REFUSED
    explanation = (
        "The baseline of what is local to a host is signed by its TPM. This one is malformed, was changed, is another "
        "host's, or was signed by a key that works in any state. It counts for nothing; `vmgate config approve` makes "
        "a new one after it has shown what is there."
    )


class BootBroken(MeasureError):
    """The kernel and the TPM do not tell of the same boot."""

    code = "ME081"
    exit = Exit.REFUSED
    explanation = (
        "Measurements hold from a start of the TPM to the next. Either the TPM was reset under a running kernel (a "
        "sleep in which it lost its power, or hibernation), or another kernel was started without a reset (kexec). "
        "What was measured says nothing of what runs now. No VM starts until the host is rebooted."
    )


class SealEmpty(MeasureError):
    """A key was to be sealed to a PCR into which nothing was measured."""

    code = "ME070"
    exit = Exit.NOT_READY
    explanation = (
        "A PCR that nobody extended has the same value on every machine and after every reset, so a key that is sealed "
        "to it is bound to nothing. vmgate seals the host's key only when its own PCR 13 and, where Secure Boot is "
        "judged, PCR 7 hold a measurement. If PCR 7 is empty the firmware does not measure: check its TPM settings."
    )


class Pcr7Unforeseen(MeasureError):
    """What a change of Secure Boot does to PCR 7 cannot be computed."""

    code = "ME071"
    exit = Exit.REFUSED
    explanation = (
        "A host image changes Secure Boot's variables or the key that vouches for the kernel image, and the host's key "
        "would not open after the reboot. It is sealed ahead for the new PCR 7 only if the host image says what "
        "firmware will measure (a release made by a newer vmgate does), and if this boot's log explains PCR 7 of now."
    )


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
