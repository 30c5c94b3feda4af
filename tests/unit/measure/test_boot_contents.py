# SPDX-License-Identifier: Apache-2.0
"""Contents of boot events: a text is what its digest is of, and everything else is a hint that never raises."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import boot_logs as lab
from lab import event_logs as write
from measure.boot_contents import (
    LINUX_INITRD,
    LONGEST_TEXT,
    Manifest,
    Text,
    load_options,
    manifest_of,
    measured_text,
    place_of,
    tag_of,
)

LINE = b"/boot/vmlinuz root=/dev/sda1 ro"


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


# Texts


@pytest.mark.parametrize("prefix", [b"kernel_cmdline: ", b"grub_kernel_cmdline "])
@pytest.mark.parametrize("measured", [LINE, LINE + b"\0"])
def test_a_boot_loaders_command_line(prefix: bytes, measured: bytes) -> None:
    """GRUB measures it without its NUL, or with it (Red Hat's)."""
    assert measured_text(prefix + LINE + b"\0", sha256(measured)) == Text(text=LINE.decode(), command_line=True)


@pytest.mark.parametrize("prefix", [b"grub_cmd: ", b"grub_cmd ", b""])
def test_other_texts_of_a_boot_loader(prefix: bytes) -> None:
    command = b"menuentry Linux {\n\tlinux /vmlinuz\n}"
    found = measured_text(prefix + command + b"\0", sha256(command))
    assert found == Text(text=command.decode(), command_line=False)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_stubs_command_line(missing: int) -> None:
    wide = (LINE.decode() + "\0").encode("utf-16-le")
    told = wide[: len(wide) - missing]
    assert measured_text(told, sha256(wide)) == Text(text=LINE.decode(), command_line=True)


def test_a_text_that_was_not_measured_is_none() -> None:
    for data in (b"kernel_cmdline: quiet\0", b"grub_cmd: quiet\0", b"quiet", "quiet\0".encode("utf-16-le"), b""):
        assert measured_text(data, sha256(LINE)) is None
        assert measured_text(data, sha256(data + b"x")) is None


def test_what_is_measured_but_no_text_is_none() -> None:
    for data in (
        b"\xff\xfe\xfd",
        b"\x1b[2J",
        "\ud800".encode("utf-16-le", "surrogatepass"),
        "\x1b\0".encode("utf-16-le"),
    ):
        assert measured_text(data, sha256(data)) is None


def test_a_text_that_is_too_long_is_not_looked_at() -> None:
    for length, found in ((LONGEST_TEXT, True), (LONGEST_TEXT + 1, False)):
        assert (measured_text(b"a" * length, sha256(b"a" * length)) is not None) is found


def test_a_command_line_cannot_be_called_something_else_and_stay_one() -> None:
    """The words in front of the text are covered by no digest: they decide only that it is not known."""
    assert measured_text(b"grub_cmd: " + LINE, sha256(LINE)) == Text(text=LINE.decode(), command_line=False)


def test_what_the_kernel_measures_of_its_command_line() -> None:
    assert load_options("quiet") == sha256(b"q\0u\0i\0e\0t\0\0\0").hex()


# Tags


def test_a_tag_is_read_if_its_length_is_right() -> None:
    data = lab.tagged(LINUX_INITRD, b"Linux initrd\0")
    assert tag_of(data) == LINUX_INITRD
    assert tag_of(struct.pack("<II", 7, 0)) == 7
    for wrong in (b"", data[:7], data[:-1], data + b"\0"):
        assert tag_of(wrong) is None


# Places

GUID = bytes(range(16))
END = lab.node(0x7F, 0xFF, b"")
FILE = lab.node(4, 4, "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le"))
DISK = lab.node(4, 1, struct.pack("<IQQ16sBB", 2, 2048, 4096, GUID, 2, 2))
TEXT_GUID = "03020100-0504-0706-0809-0a0b0c0d0e0f"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (FILE + END, "\\EFI\\BOOT\\BOOTX64.EFI"),
        (lab.node(2, 1, bytes(8)) + lab.node(1, 1, b"\1\x1f") + DISK + FILE + END,
         f"Path(2,1)/Pci(31,1)/HD(2,{TEXT_GUID})/\\EFI\\BOOT\\BOOTX64.EFI"),
        (lab.node(4, 7, GUID) + lab.node(4, 6, GUID) + END, f"Fv({TEXT_GUID})/FvFile({TEXT_GUID})"),
        (FILE, "\\EFI\\BOOT\\BOOTX64.EFI"),
        (lab.node(4, 6, GUID[:15]) + END, "Path(4,6)"),
        (lab.node(4, 4, "/a\x1b[2J\u202e".encode("utf-16-le")) + END, "/a\\x1b[2J\\x202e"),
        (END, ""),
        (b"", ""),
        (b"\4\4\3\0", ""),
        (b"\4\4\xff\xff", ""),
        (lab.node(4, 4, b"a\0") * 50, "/".join("a" * 32)),
        (lab.node(4, 4, b"a\0" * 1_000), "a" * 300),
    ],
)  # fmt: skip
def test_a_program_tells_its_place(path: bytes, told: str) -> None:
    assert place_of(lab.image_load(path)) == told
    assert place_of(lab.image_load(path) + b"behind") == told


def test_an_event_of_a_program_without_a_place() -> None:
    # Loaders that run what they measured themselves write an empty path, and more behind it.
    assert place_of(bytes(41)) == ""
    for data in (b"", b"where it was loaded from", lab.image_load(FILE)[:40], b"\xff" * 60):
        assert place_of(data) == ""


# Manifests


@pytest.mark.parametrize("number", [1, 2, 3])
def test_firmware_names_its_manifest(number: int) -> None:
    firmware = "" if number == 1 else "Maker Model 1 Maker 2.0"
    assert manifest_of(write.manifest(number)) == Manifest(guid=write.MANIFEST_GUID, firmware=firmware)


def test_a_manifest_is_told_as_far_as_it_goes() -> None:
    whole = write.manifest()
    for length in range(len(whole)):
        found = manifest_of(whole[:length])
        assert found is None if length < 36 else found and found.guid == write.MANIFEST_GUID
    hostile = manifest_of(write.manifest(2, (b"\x1b[2J" * 50, b"\xff" * 200, b"", b"", b"")))
    assert hostile is not None
    assert hostile.firmware.isascii()
    assert hostile.firmware.isprintable()
    assert len(hostile.firmware) == 300


@pytest.mark.parametrize("data", [b"", write.startup_locality(3), b"SP800-155 Event9" + bytes(40)])
def test_other_events_name_none(data: bytes) -> None:
    assert manifest_of(data) is None


# Properties


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"grub_cmd: ", b"kernel_cmdline: ", b"SP800-155 Event2", bytes(24)])
)
def test_no_data_raises_or_is_told_in_more_than_a_line(noise: bytes, head: bytes) -> None:
    data = head + noise
    manifest, place = manifest_of(data), place_of(lab.image_load(noise) if head else data)
    for text in (place, manifest.firmware if manifest else ""):
        assert len(text) <= 300
        assert not text or (text.isascii() and text.isprintable())
    assert tag_of(data) in (None, int.from_bytes(data[:4], "little"))
    for digest in (sha256(noise), sha256(data)):
        found = measured_text(data, digest)
        if found is not None:
            forms = (found.text.encode(), found.text.encode() + b"\0", found.text.encode("utf-16-le"))
            assert digest in map(sha256, (*forms, (found.text + "\0").encode("utf-16-le")))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=80))
def test_each_text_that_was_measured_is_told(text: str) -> None:
    for prefix in (b"kernel_cmdline: ", b"grub_cmd: "):
        found = measured_text(prefix + text.encode() + b"\0", sha256(text.encode()))
        assert found is not None
        assert found.text == text
