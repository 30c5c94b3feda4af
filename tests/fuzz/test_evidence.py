# SPDX-License-Identifier: Apache-2.0
"""Logs, quotes and keys that are cut off, at every byte: refused in one line, or right for what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.test_parsers import judge, seeds

EVIDENCE = (
    "boot-log", "boot-log-explained", "boot-event", "ima-binary", "ima-ascii", "ima-entry", "systemd-log", "cel-log",
    "quote", "quote-signature", "public-area",
)  # fmt: skip
WHOLE = ("quote", "quote-signature", "public-area", "boot-log-explained")
"""What says something only as a whole."""


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_cut_anywhere_does_no_harm(name: str, tmp_path: Path) -> None:
    for seed in seeds(name):
        passed = [length for length in range(len(seed)) if judge(name, tmp_path, seed[:length])]
        assert not passed or name not in WHOLE


@pytest.mark.parametrize("name", EVIDENCE)
def test_bytes_behind_the_end_do_no_harm(name: str, tmp_path: Path) -> None:
    for seed in seeds(name):
        for more in (b"\0", b"\xff", b"\n", b"\x1e", bytes(5_000), b"\xff" * 5_000, seed):
            passed = judge(name, tmp_path, seed + more)
            assert not passed or name not in {"quote", "quote-signature", "public-area"}
