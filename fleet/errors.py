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
