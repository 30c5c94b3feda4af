# SPDX-License-Identifier: Apache-2.0
"""The demo's control group, on the host's own TPM: what sealing without signed policies would do, and a wrong signer.

usage: control.py seal|open|other-key TCTI FILE STATE     exit 0 yes, 3 no
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lab.plain_seal import open_plain, seal_plain  # isort: skip

from documents.host_state import Generation, SealedKey
from documents.release import SignedPolicy
from keys.tpm_policy import policy_ref
from measure import guard
from measure.errors import SealShut
from measure.policy import approved_policy
from measure.tpm import Tpm

SECRET = b"what plain PCR sealing protects."


def main(what: str, tcti: str, file: Path, state: Path) -> int:
    """Do one thing."""
    if what == "seal":
        seal_plain(tcti, file, SECRET)
        return 0
    if what == "open":
        opened = open_plain(tcti, file)
        print("control blob:", "opens" if opened == SECRET else "stays shut")
        return 0 if opened == SECRET else 3
    sealed = SealedKey.parse((state / "tpm/host-key.json").read_bytes())
    generation = Generation.parse((state / "generations/current/generation.json").read_bytes())
    with Tpm.open(tcti) as tpm:
        guard.unseal(tpm, sealed, generation.platform.policies)
        forged = [_signed_by_another(policy, sealed) for policy in generation.platform.policies]
        try:
            guard.unseal(tpm, sealed, forged)
        except SealShut as error:
            print("signed by another key:", error.cause)
            return 0
    return 3


def _signed_by_another(policy: SignedPolicy, sealed: SealedKey) -> SignedPolicy:
    message = approved_policy(policy) + policy_ref(sealed.channel, sealed.epoch)
    signature = ec.generate_private_key(ec.SECP256R1()).sign(message, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    return dataclasses.replace(policy, signature=r.to_bytes(32, "big") + s.to_bytes(32, "big"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
