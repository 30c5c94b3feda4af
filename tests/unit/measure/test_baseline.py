# SPDX-License-Identifier: Apache-2.0
"""A signed baseline of a real software TPM, verified without one: as it is, and with each byte changed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from content.fsverity import digest_bytes
from lab.documents import damaged
from lab.measuring import PUBLISHER, digest
from measure.baseline import verify_baseline
from measure.errors import BaselineRefused
from measure.local import SUBJECTS

VECTORS = Path(__file__).parents[2] / "vectors/baseline"
SIGNED, AK = (VECTORS / "signed.json").read_bytes(), (VECTORS / "ak.pub").read_bytes()


def test_it_is_verified_by_who_knows_the_attestation_key() -> None:
    approved = verify_baseline(SIGNED, AK)
    assert dict(approved.baseline.entries) == {subject: digest(subject) for subject in SUBJECTS}
    assert (approved.baseline.sequence, approved.baseline.actor) == (1, "command of alice (uid 0)")
    assert (approved.channel, approved.key) == ("platform", PUBLISHER.public())
    assert approved.fsverity == digest_bytes(SIGNED)


def test_no_change_of_its_bytes_is_believed() -> None:
    for untrusted in damaged(SIGNED):
        with pytest.raises(BaselineRefused):
            verify_baseline(untrusted, AK)


@pytest.mark.parametrize("member", ["baseline", "signature", "public", "attest", "certification"])
def test_no_byte_of_what_it_holds_can_be_changed(member: str) -> None:
    """Each in its turn, so that the base64 around it stays right."""
    document = json.loads(SIGNED)
    held = base64.b64decode(document[member])
    for at in range(len(held)):
        changed = held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :]
        untrusted = {**document, member: base64.b64encode(changed).decode()}
        with pytest.raises(BaselineRefused):
            verify_baseline(json.dumps(untrusted, sort_keys=True, separators=(",", ":")).encode(), AK)


def test_another_attestation_key_is_not_its_hosts() -> None:
    for untrusted in (b"", AK[:-1], AK[:-1] + bytes([AK[-1] ^ 1]), bytes(88)):
        with pytest.raises(BaselineRefused):
            verify_baseline(SIGNED, untrusted)
