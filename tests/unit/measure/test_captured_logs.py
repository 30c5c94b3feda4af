# SPDX-License-Identifier: Apache-2.0
"""The logs of a real host, captured in the rig, beside what the kernel and other programs say of the same boot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from documents.evidence import Evidence
from documents.host_image import HostImage
from measure.appraise import claims_from_evidence
from measure.boot import Booted
from measure.ima import parse_ima, replay
from measure.ima_entries import file_of, verify_boot_aggregate

VECTORS = Path(__file__).parents[2] / "vectors/rig"
FACTS: dict[str, Any] = json.loads((VECTORS / "facts.json").read_bytes())
EVIDENCE = Evidence.parse((VECTORS / "evidence.json").read_bytes())
IMAGE = HostImage.parse((VECTORS / "host-image.json").read_bytes())


def booted() -> Booted:
    nonce = bytes.fromhex(FACTS["nonce"])
    boot = claims_from_evidence(EVIDENCE, (VECTORS / "ak.pub").read_bytes(), nonce, chip=True).boot
    assert boot is not None
    return boot


def test_the_kernel_tells_what_it_was_given_as_others_do() -> None:
    boot = booted()
    assert boot.state.initrds == (FACTS["sections"][".initrd"],)
    given = (IMAGE.command_line + "\0").encode("utf-16-le")
    assert boot.state.load_options == (hashlib.sha256(given).hexdigest(),)
    assert boot.state.command_lines == ()
    assert boot.state.quirks == ()
    assert [place.rpartition("/")[2] for place in boot.state.places] == ["\\EFI\\BOOT\\BOOTX64.EFI"]


def test_the_kernels_list_is_of_the_boot_that_the_tpm_tells() -> None:
    held = {int(index): bytes.fromhex(value) for index, value in FACTS["pcrs"].items()}
    log = parse_ima(EVIDENCE.ima)
    verify_boot_aggregate(log.entries[0], "sha256", held)
    boot = booted()
    assert replay(log, ["sha256"])["sha256"].keys() == {10}
    covered = replace(log, entries=boot.ima)
    assert replay(covered, ["sha256"]) == {"sha256": {10: boot.pcrs[10]}}
    assert all(file_of(entry).name.startswith("/") for entry in log.entries[1:])
