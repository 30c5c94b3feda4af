# SPDX-License-Identifier: Apache-2.0
"""A kernel command line against the patterns of a signed policy: words as the kernel splits them, and no way around."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.measuring import POLICY
from measure.kernel_arguments import argument_findings, words

LINE = b'BOOT_IMAGE=/vmlinuz root=/dev/sda1 iommu=force lockdown=integrity quiet dyndbg="file a +p; file b" -- single\n'


def outcomes(line: bytes | None, *, required: tuple[str, ...] = (), denied: tuple[str, ...] = ()) -> dict[str, str]:
    policy = replace(POLICY, kernel_required=required, kernel_denied=denied)
    return {finding.subject: finding.outcome for finding in argument_findings(line, policy)}


def test_words_are_split_as_the_kernel_does_it() -> None:
    assert words(LINE) == [
        "BOOT_IMAGE=/vmlinuz", "root=/dev/sda1", "iommu=force", "lockdown=integrity", "quiet",
        "dyndbg=file a +p; file b", "--", "single",
    ]  # fmt: skip
    assert words(b'a "b c') == ["a", "b", "c"], "a quote that nobody closed hides nothing"
    assert words(b"a\tb\nc") == ["a", "b", "c"]
    assert words(b"\xffinit=/x") == ["?init=/x"]
    assert words(b"") == []


def test_what_is_required_must_be_there_and_what_is_denied_must_not() -> None:
    assert outcomes(LINE, required=("iommu=*", "lockdown=integrity"), denied=("init=*", "systemd.debug*")) == {
        "iommu=*": "pass", "lockdown=integrity": "pass", "init=*": "pass", "systemd.debug*": "pass",
    }  # fmt: skip
    assert outcomes(LINE, required=("lockdown=confidentiality",)) == {"lockdown=confidentiality": "fail"}
    assert outcomes(LINE + b" init=/bin/sh", denied=("init=*",)) == {"init=*": "fail"}


def test_a_policy_without_patterns_asks_for_nothing() -> None:
    assert outcomes(LINE) == {}
    assert outcomes(None) == {}


def test_a_command_line_that_is_not_known_fails_every_pattern() -> None:
    assert outcomes(None, required=("iommu=*",), denied=("init=*",)) == {"iommu=*": "fail", "init=*": "fail"}


def test_what_stands_after_the_dashes_is_not_the_kernels_but_still_denied() -> None:
    assert outcomes(b"quiet -- iommu=force single", required=("iommu=*",), denied=("single",)) == {
        "iommu=*": "fail",
        "single": "fail",
    }


@pytest.mark.parametrize("line", [b"mce-log=off", b"mce_log=off", b'"mce-log=off"', b'mce_log="off"'])
def test_dashes_and_quotes_hide_nothing(line: bytes) -> None:
    assert outcomes(line, denied=("mce_log=off",)) == {"mce_log=off": "fail"}
    assert outcomes(line, denied=("mce-log=off",)) == {"mce-log=off": "fail"}


@given(line=st.binary(max_size=200), word=st.from_regex(r"[a-z]{1,8}=[a-z0-9/]{1,8}", fullmatch=True))
def test_any_line_gives_findings_and_an_added_word_shows(line: bytes, word: str) -> None:
    """Whatever stands before it, but for an open quote, which the kernel would take for a part of another word."""
    before = line.replace(b'"', b"")
    assert outcomes(before + b" " + word.encode(), denied=(word,)) == {word: "fail"}
    for found in words(line):
        assert found.isprintable()
