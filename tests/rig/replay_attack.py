# SPDX-License-Identifier: Apache-2.0
"""What an attacker runs who is root on a host that booted something else: copied into the rig and run there.

Measures into the VMM PCR what the active release wants to see there, as vmgate would, then tries to open the host's
sealed key with every policy of the release. Prints one line a policy: ``OPENED``, or ``shut`` and why. The same program
on a host that booted as signed opens the key, which shows that it can.
"""

from __future__ import annotations

from pathlib import Path

from agent.paths import HostPaths
from documents.errors import VmgateError
from documents.host_state import Generation, SealedKey
from measure.pcr import KERNEL_IMAGE_PCR, SECURE_BOOT_PCR, VMM_PCR
from measure.predict import events_of
from measure.tpm import Tpm


def main() -> None:
    """Try everything."""
    paths = HostPaths(Path("/"))
    generation = Generation.parse((paths.state / "generations/current/generation.json").read_bytes())
    sealed = SealedKey.parse(paths.sealed_key.read_bytes())
    with Tpm.open("device:/dev/tpmrm0") as tpm:
        if not any(tpm.read_pcrs("sha256", (VMM_PCR,))[VMM_PCR]):
            for event in events_of(generation.platform.reference):
                tpm.extend(VMM_PCR, event.encode())
        for index, value in tpm.read_pcrs("sha256", (SECURE_BOOT_PCR, KERNEL_IMAGE_PCR, VMM_PCR)).items():
            print(f"PCR {index} = {value.hex()}")
        for policy in generation.platform.policies:
            try:
                print("OPENED", len(tpm.unseal(sealed, policy)))
            except VmgateError as error:
                print("shut", error.cause)


if __name__ == "__main__":
    main()
