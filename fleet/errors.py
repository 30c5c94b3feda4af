# SPDX-License-Identifier: Apache-2.0
"""What the verifier can tell a user that went wrong."""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class FleetError(VmgateError):
    """The root of this package's errors."""

    code = "FL000"
    explanation = "The fleet side of vmgate could not do what it was asked."


class VerifierUnready(FleetError):
    """The verifier was not given what a verification needs."""

    code = "FL001"
    exit = Exit.REFUSED
    explanation = (
        "Evidence is only worth something against a nonce of your own, an attestation key that you know and the "
        "release that the host should run. Without one of them the answer is no."
    )


class VerifierFailed(FleetError):
    """The verifier failed in a way that nobody foresaw, which is a no."""

    code = "FL010"
    exit = Exit.REFUSED
    explanation = (
        "Judging evidence ended in an error of vmgate itself. Whatever the evidence was, the answer is no. "
        "VMGATE_TRACEBACK=1 shows where it happened; please report that."
    )


class NonceRefused(FleetError):
    """Evidence answers a nonce that is too old, was answered before, or was never given to its host."""

    code = "FL011"
    exit = Exit.REFUSED
    explanation = (
        "A nonce proves that evidence was made after it was given out. It counts for a few minutes, for one host and "
        "once. Ask the verifier for a new one."
    )
