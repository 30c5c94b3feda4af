# SPDX-License-Identifier: Apache-2.0
"""IMA lists: both forms say the same, every byte that a digest covers is checked, and violations leave their mark."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import event_logs as write
from measure import ima
from measure.errors import LogRefused
from measure.ima import ImaEntry, parse_ima, replay, values_after_each
from measure.ima_entries import ImaBuffer, ImaFile, boot_aggregate, buffer_of, file_of, verify_boot_aggregate

FILE = hashlib.sha256(b"a file").digest()
NAMED = b"sha256:\0" + FILE
PRINTED = b"sha256:" + FILE.hex().encode()
PATH = b"/usr/bin/qemu-system-x86_64"
NG = write.ima_data(NAMED, PATH + b"\0")

# The template's name, the fields as hashed, the fields as printed.
TEMPLATES = [
    (b"ima-ng", (NAMED, PATH + b"\0"), (PRINTED, PATH)),
    (b"ima-ngv2", (b"verity:" + NAMED, PATH + b"\0"), (b"verity:" + PRINTED, PATH)),
    (b"ima-sig", (NAMED, PATH + b"\0", b"\3\2sig"), (PRINTED, PATH, b"0302736967")),
    (b"ima-sig", (NAMED, PATH + b"\0", b""), (PRINTED, PATH, b"")),
    (b"ima-sigv2", (b"ima:" + NAMED, PATH + b"\0", b"\3"), (b"ima:" + PRINTED, PATH, b"03")),
    (b"ima-buf", (NAMED, b"kexec-cmdline\0", b"quiet"), (PRINTED, b"kexec-cmdline", b"7175696574")),
    (b"ima-modsig", (NAMED, PATH + b"\0", b"", NAMED, b"\1"), (PRINTED, PATH, b"", PRINTED, b"01")),
    (b"ima-modsig", (NAMED, PATH + b"\0", b"\3", b"", b""), (PRINTED, PATH, b"03", b"", b"")),
    (
        b"evm-sig",
        (NAMED, PATH + b"\0", b"\5", b"security.ima\0", b"\x21\0\0\0", b"\4", b"\xe8\3\0\0", b"\0\0\0\0", b"\xed\x81"),
        (PRINTED, PATH, b"05", b"security.ima", b"21000000", b"04", b"1000", b"0", b"33261"),
    ),
    (
        b"evm-sig",
        (NAMED, PATH + b"\0", b"", b"", b"", b"", b"", b"", b""),
        (PRINTED, PATH, b"", b"", b"", b"", b"", b"", b""),
    ),
    (b"d-ng|n-ng|imode", (NAMED, b"\0", b"\xed\x81"), (PRINTED, b"", b"33261")),
    (b"n|d", (PATH + b"\0", b"d" * 20), (PATH, b"64" * 20)),
]


@pytest.mark.parametrize(("template", "hashed", "printed"), TEMPLATES)
@pytest.mark.parametrize("alg", ["sha1", "sha256", "sha384", "sha512"])
def test_both_forms_say_the_same(
    template: bytes, hashed: tuple[bytes, ...], printed: tuple[bytes, ...], alg: str
) -> None:
    data = write.ima_data(*hashed)
    binary = parse_ima(write.ima_binary(10, template, data, alg=alg))
    text = parse_ima(write.ima_ascii(10, template, data, *printed, alg=alg))
    assert (binary.ascii, binary.alg, text.ascii, text.alg) == (False, alg, True, alg)
    assert text.entries == binary.entries
    assert binary.entries[0] == ImaEntry(10, template.decode(), hashlib.new(alg, data).digest(), data)


def test_the_first_template_hashes_a_padded_name() -> None:
    digest = hashlib.sha1(b"a file").digest()
    hashed = digest + PATH.ljust(256, b"\0")
    template_digest = hashlib.sha1(hashed).digest()
    binary = struct.pack("<I", 10) + template_digest + struct.pack("<I3s", 3, b"ima") + digest + write.ima_data(PATH)
    text = write.ima_ascii(10, b"ima", hashed, digest.hex().encode(), PATH)
    for untrusted in (binary, text):
        assert parse_ima(untrusted).entries == (ImaEntry(10, "ima", template_digest, hashed),)


def test_the_first_line_of_a_kernel_that_found_no_tpm() -> None:
    """It is the same on every machine, so it is known without a capture."""
    line = b"10 1d8d532d463c9f8c205d0df7787669a85f93e260 ima-ng sha1:" + b"00" * 20 + b" boot_aggregate\n"
    assert not parse_ima(line).entries[0].violation


def test_a_list_replays_in_every_bank_to_what_a_tpm_computes() -> None:
    other = write.ima_data(NAMED, b"/usr/lib/libvirt.so.0\0")
    log = parse_ima(write.ima_binary(10, b"ima-ng", NG) + write.ima_binary(10, b"ima-ng", other))
    values = replay(log)
    assert set(values) == {"sha1", "sha256", "sha384", "sha512"}
    for alg, pcrs in values.items():
        first = hashlib.new(alg, bytes(write.SIZE[alg]) + hashlib.new(alg, NG).digest()).digest()
        assert pcrs == {10: hashlib.new(alg, first + hashlib.new(alg, other).digest()).digest()}
    assert replay(log, ["sha384"]) == {"sha384": values["sha384"]}


@pytest.mark.parametrize("alg", ["sha1", "sha256"])
def test_a_violation_extends_ones(alg: str) -> None:
    unknown = write.ima_data(b"sha256:\0" + bytes(32), PATH + b"\0")
    zeros = bytes(write.SIZE[alg])
    binary = write.ima_binary(10, b"ima-ng", unknown, alg=alg, digest=zeros)
    text = write.ima_ascii(10, b"ima-ng", unknown, b"sha256:" + b"00" * 32, PATH, alg=alg, digest=zeros)
    honest = write.ima_binary(10, b"ima-ng", NG, alg=alg), write.ima_ascii(10, b"ima-ng", NG, PRINTED, PATH, alg=alg)
    for untrusted in (honest[0] + binary, honest[1] + text):
        log = parse_ima(untrusted)
        assert [entry.violation for entry in log.entries] == [False, True]
        first = hashlib.sha384(bytes(48) + hashlib.sha384(NG).digest()).digest()
        assert replay(log)["sha384"] == {10: hashlib.sha384(first + b"\xff" * 48).digest()}


def test_the_policy_may_name_another_pcr() -> None:
    text = b"".join(write.ima_ascii(pcr, b"ima-ng", NG, PRINTED, PATH) for pcr in (10, 9, 11))
    assert text.count(b"\n 9 ") == 1
    assert set(replay(parse_ima(text))["sha256"]) == {9, 10, 11}


def test_a_binary_template_with_fields_that_nobody_knows_is_read() -> None:
    data = write.ima_data(b"future", b"field")
    assert parse_ima(write.ima_binary(10, b"from-the-future", data)).entries[0].data == data


# What an entry is about


def entry(template: bytes, *fields: bytes) -> ImaEntry:
    return parse_ima(write.ima_binary(10, template, write.ima_data(*fields))).entries[0]


def original(file_digest: bytes, name: bytes) -> ImaEntry:
    data = file_digest + name.ljust(256, b"\0")
    return parse_ima(write.ima_ascii(10, b"ima", data, file_digest.hex().encode(), name)).entries[0]


FILES = {template: hashed for template, hashed, _ in TEMPLATES if template.startswith((b"ima-", b"evm-sig"))}
del FILES[b"ima-buf"]


@pytest.mark.parametrize("template", FILES)
def test_an_entry_names_its_file(template: bytes) -> None:
    kind, name, *rest = FILES[template]
    second = template.endswith(b"v2")
    verity = kind.startswith(b"verity:")
    assert file_of(entry(template, kind, name, *rest)) == ImaFile(PATH.decode(), "sha256", FILE, verity)
    assert verity == (template == b"ima-ngv2")
    sha1 = (b"ima:" if second else b"") + b"sha1:\0" + b"d" * 20
    assert file_of(entry(template, sha1, b"/a b\xff\n\0", *rest)) == ImaFile("/a b\xff\n", "sha1", b"d" * 20)


def test_an_entry_of_the_first_template_names_its_file() -> None:
    for name in (PATH, b"n" * 255, b"boot_aggregate"):
        assert file_of(original(b"d" * 20, name)) == ImaFile(name.decode(), "sha1", b"d" * 20)
    for data in (b"", b"d" * 20, b"d" * 20 + bytes(256), b"d" * 20 + b"a\0b".ljust(256, b"\0"), b"d" * 277):
        with pytest.raises(LogRefused):
            file_of(ImaEntry(10, "ima", b"d" * 20, data))


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        (b"ima-buf", (NAMED, b"kexec-cmdline\0", b"quiet")),
        (b"d-ng|n-ng", (NAMED, PATH + b"\0")),
        (b"n-ng|d-ng", (PATH + b"\0", NAMED)),
        (b"from-the-future", (NAMED, PATH + b"\0")),
        (b"ima-ng", (PATH + b"\0", NAMED)),
        (b"ima-ng", (NAMED, PATH)),
        (b"ima-ng", (NAMED, b"")),
        (b"ima-ng", (NAMED, PATH + b"\0\0")),
        (b"ima-ng", (NAMED, b"/usr\0" + PATH + b"\0")),
        (b"ima-ng", (NAMED, PATH + b"\0", b"")),
        (b"ima-ng", (NAMED,)),
        (b"ima-ng", ()),
        (b"ima-sig", (NAMED, PATH + b"\0")),
        (b"ima-sig", (NAMED, PATH + b"\0", b"", b"")),
        (b"ima-modsig", (NAMED, PATH + b"\0", b"", NAMED)),
        (b"evm-sig", (NAMED, PATH + b"\0", b"", b"", b"", b"", b"", b"")),
        (b"ima-ng", (b"sha256:\0" + FILE[:-1], PATH + b"\0")),
        (b"ima-ng", (b"sha256:\0" + FILE + b"x", PATH + b"\0")),
        (b"ima-ng", (b"sha256:" + FILE, PATH + b"\0")),
        (b"ima-ng", (b"md4:\0" + FILE, PATH + b"\0")),
        (b"ima-ng", (b"", PATH + b"\0")),
        # What a digest is of is told by the second form alone, and always.
        (b"ima-ng", (b"verity:sha256:\0" + FILE, PATH + b"\0")),
        (b"ima-ng", (b"ima:sha256:\0" + FILE, PATH + b"\0")),
        (b"ima-ngv2", (NAMED, PATH + b"\0")),
        (b"ima-ngv2", (b"other:" + NAMED, PATH + b"\0")),
        (b"ima-ngv2", (b"ima:verity:" + NAMED, PATH + b"\0")),
        (b"ima-sigv2", (NAMED, PATH + b"\0", b"")),
    ],
)
def test_an_entry_that_names_no_file_in_its_form_is_refused(template: bytes, fields: tuple[bytes, ...]) -> None:
    with pytest.raises(LogRefused):
        file_of(entry(template, *fields))


@pytest.mark.parametrize("template", FILES)
def test_a_cut_or_forged_length_names_no_file(template: bytes) -> None:
    fields, name = FILES[template], template.decode()
    data = write.ima_data(*fields)
    assert file_of(ImaEntry(10, name, b"d" * 20, data)).name == PATH.decode()
    lengths = [sum(4 + len(field) for field in fields[:number]) for number in range(len(fields)) if fields[number]]
    forged = [data[:at] + value + data[at + 4 :] for at in lengths for value in (bytes(4), b"\xff" * 4, b"\0\0\0\x80")]
    for untrusted in (*(data[:length] for length in range(len(data))), data + b"\0", *forged):
        with pytest.raises(LogRefused):
            file_of(ImaEntry(10, name, b"d" * 20, untrusted))


def test_an_entry_under_another_templates_name_says_nothing_else() -> None:
    """No digest covers the name of a template."""
    for template, hashed, _ in TEMPLATES:
        honest = entry(template, *hashed)
        for other in ("ima", "ima-buf", "d-ng|n-ng", *(name.decode() for name in FILES)):
            for read in (file_of, buffer_of):
                try:
                    found = read(honest._replace(template=other))
                except LogRefused:
                    continue
                assert (found.name.encode() + b"\0", found.alg, found.digest) == (hashed[1], "sha256", hashed[0][-32:])
                assert not isinstance(found, ImaFile) or found.verity == hashed[0].startswith(b"verity:")


@given(st.sampled_from(["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2", "ima-modsig", "ima"]), st.binary(max_size=120))
def test_noise_names_no_file(template: str, noise: bytes) -> None:
    for untrusted in (noise, write.ima_data(NAMED, noise), write.ima_data(noise, PATH + b"\0", noise)):
        try:
            found = file_of(ImaEntry(10, template, b"d" * 20, untrusted))
        except LogRefused:
            continue
        kind = b"" if not template.endswith("v2") else b"verity:" if found.verity else b"ima:"
        fields = (kind + found.alg.encode() + b":\0" + found.digest, found.name.encode("latin-1") + b"\0")
        assert untrusted.startswith(write.ima_data(*fields))


# Buffers: what the kernel took in that is no file


def buffer(name: bytes, content: bytes, alg: str = "sha256") -> ImaEntry:
    digest = alg.encode() + b":\0" + hashlib.new(alg, content).digest()
    return entry(b"ima-buf", digest, name + b"\0", content)


@pytest.mark.parametrize("alg", ["sha1", "sha256", "md5"])
@pytest.mark.parametrize("content", [b"", b"quiet init=/bin/sh", bytes(range(256)) * 40])
def test_a_buffer_is_what_its_digest_is_of(alg: str, content: bytes) -> None:
    digest = hashlib.new(alg, content).digest()
    assert buffer_of(buffer(b"kexec-cmdline", content, alg)) == ImaBuffer("kexec-cmdline", alg, digest, content)
    assert buffer_of(buffer(b".ima", content, alg)).name == ".ima"


def test_a_buffer_with_another_digest_or_length_is_refused() -> None:
    good = buffer(b"kexec-cmdline", b"quiet")
    for data in (*(good.data[:length] for length in range(len(good.data))), good.data + b"\0"):
        with pytest.raises(LogRefused):
            buffer_of(good._replace(data=data))
    for wrong in (
        good._replace(data=good.data.replace(b"quiet", b"debug")),
        good._replace(data=good.data.replace(b"sha256", b"sha512")),
        good._replace(data=good.data.replace(b"sha256", b"sm3256")),
        good._replace(template="ima-sig"),
        good._replace(digest=bytes(20)),
    ):
        with pytest.raises(LogRefused):
            buffer_of(wrong)


# The boot that a list is of

VALUES = {index: bytes([index]) * 32 for index in range(10)}


def aggregate(digest: bytes, alg: bytes = b"sha256", name: bytes = b"boot_aggregate") -> ImaEntry:
    return entry(b"ima-ng", alg + b":\0" + digest, name + b"\0")


def test_a_list_starts_with_the_aggregate_of_its_boot() -> None:
    right = hashlib.sha256(b"".join(VALUES.values())).digest()
    assert boot_aggregate("sha256", VALUES) == right
    verify_boot_aggregate(aggregate(right), "sha256", VALUES)
    # The SHA-1 bank has two PCRs less in it.
    sha1 = {index: value[:20] for index, value in VALUES.items()}
    first_eight = hashlib.sha1(b"".join(sha1[index] for index in range(8))).digest()
    verify_boot_aggregate(aggregate(first_eight, b"sha1"), "sha1", sha1)
    verify_boot_aggregate(original(first_eight, b"boot_aggregate"), "sha1", sha1)


@pytest.mark.parametrize("index", range(10))
def test_a_list_of_another_boot_is_refused(index: int) -> None:
    first = aggregate(boot_aggregate("sha256", VALUES))
    with pytest.raises(LogRefused, match="another boot"):
        verify_boot_aggregate(first, "sha256", {**VALUES, index: b"\xff" * 32})


def test_a_list_that_starts_with_anything_else_is_refused() -> None:
    right = boot_aggregate("sha256", VALUES)
    for first in (
        aggregate(right, name=b"/usr/bin/init"),
        aggregate(right[:20], b"sha1"),
        entry(b"ima-ngv2", b"verity:sha256:\0" + right, b"boot_aggregate\0"),
        aggregate(right)._replace(digest=bytes(20)),
        buffer(b"boot_aggregate", b""),
    ):
        with pytest.raises(LogRefused):
            verify_boot_aggregate(first, "sha256", VALUES)


# What is refused

LINE = write.ima_ascii(10, b"ima-ng", NG, PRINTED, PATH)


@pytest.mark.parametrize(
    ("untrusted", "cause"),
    [
        (b"", "empty"),
        (LINE[:-1], "no end"),
        (LINE + b"\n", "entry 1: it has no fields"),
        (b"10\n", "no fields"),
        (LINE.replace(b"10 ", b"24 ", 1), "PCR 24"),
        (LINE.replace(b"10 ", b"1x ", 1), "not a number"),
        (LINE.replace(b" ", b"  ", 1), "template digest has 0 bytes"),
        (LINE.replace(PATH, PATH + b" (deleted)"), "3 fields and its template 2"),
        (LINE.replace(b"sha256:", b""), "does not name its hash"),
        (LINE.replace(PATH, b"/usr/bin/qemu-system-x86_65"), "not the hash of the fields"),
        (LINE.replace(b"sha256:", b"sha512:"), "not the hash of the fields"),
        (LINE.replace(b"ima-ng", b"ima-xx"), "not known"),
        (LINE.replace(b"ima-ng", b"IMA-NG"), "malformed"),
        (LINE.replace(b"ima-ng", b"i" * 129), "malformed"),
        (LINE.replace(PRINTED, PRINTED[:-1]), "not hexadecimal"),
        (LINE.replace(PRINTED, PRINTED[:-1] + b"\xe9"), "not hexadecimal"),
        (LINE + write.ima_ascii(10, b"ima-ng", NG, PRINTED, PATH, alg="sha256"), "another length"),
        (write.ima_ascii(10, b"d-ng|n-ng|imode", b"", PRINTED, PATH, b"65536"), "too large"),
        (write.ima_ascii(10, b"d-ng|n-ng|imode", b"", PRINTED, PATH, b"-1"), "not a number"),
        (write.ima_ascii(10, b"ima", b"", b"00" * 19, PATH), "too long or too short"),
        (write.ima_ascii(10, b"ima", b"", b"00" * 20, b"n" * 256), "too long or too short"),
        (write.ima_binary(24, b"ima-ng", NG), "PCR 24"),
        (write.ima_binary(10, b"ima-ng", NG, digest=b"d" * 20), "not the hash of the fields"),
        (write.ima_binary(10, b"", NG), "no template name"),
        (write.ima_binary(10, b"IMA", NG), "no template name"),
        (write.ima_binary(10, b"ima-ng", NG) + write.ima_binary(10, b"\xff", NG), "entry 1: the template's name"),
        (b"\x0a\0\0\0", "no template name"),
    ],
)
def test_what_is_not_a_list_is_refused(untrusted: bytes, cause: str) -> None:
    with pytest.raises(LogRefused) as refused:
        parse_ima(untrusted)
    assert cause in refused.value.cause


def test_a_list_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = write.ima_binary(10, b"ima-ng", NG)
    monkeypatch.setattr(ima, "BOUNDS", ima.Bounds(octets=1_000, events=2))
    for entry in (binary, LINE):
        assert len(parse_ima(entry * 2).entries) == 2
        with pytest.raises(LogRefused, match="more than 2 entries"):
            parse_ima(entry * 3)
        with pytest.raises(LogRefused, match="the bound is 1000"):
            parse_ima(entry * 10)


def test_a_flipped_byte_is_found_wherever_it_stands() -> None:
    """In the sha1 list every byte but the index is covered; a changed index moves the value to another PCR."""
    for honest in (write.ima_binary(10, b"ima-ng", NG), LINE):
        value = replay(parse_ima(honest))["sha256"]
        for offset in range(len(honest)):
            for flip in (0x01, 0x20, 0x80):
                untrusted = honest[:offset] + bytes([honest[offset] ^ flip]) + honest[offset + 1 :]
                try:
                    found = parse_ima(untrusted)
                except LogRefused:
                    continue
                same = replay(found)["sha256"] == value
                assert not same or found.entries[0].data == NG


def test_a_cut_binary_list_ends_at_an_entry_or_is_refused() -> None:
    entry = write.ima_binary(10, b"ima-ng", NG)
    for length in range(1, 3 * len(entry)):
        if length % len(entry):
            with pytest.raises(LogRefused):
                parse_ima((entry * 3)[:length])
        else:
            assert len(parse_ima((entry * 3)[:length]).entries) == length // len(entry)


# Properties

DAMAGED = (LINE * 2, write.ima_binary(10, b"ima-ng", NG) * 2)


@st.composite
def entries(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A binary entry, the same in ASCII, and its data."""
    pcr = draw(st.integers(0, 23))
    alg = draw(st.sampled_from(["sha1", "md5", "sha512"]))
    file_digest = draw(st.binary(min_size=1, max_size=64))
    path = draw(st.binary(max_size=80).map(lambda raw: bytes(b for b in raw if b not in b"\n \0")))
    signature = draw(st.binary(max_size=20))
    data = write.ima_data(alg.encode() + b":\0" + file_digest, path + b"\0", signature)
    printed = (alg.encode() + b":" + file_digest.hex().encode(), path, signature.hex().encode())
    return write.ima_binary(pcr, b"ima-sig", data), write.ima_ascii(pcr, b"ima-sig", data, *printed), data


@given(st.lists(entries(), min_size=1, max_size=10))
def test_what_is_written_is_read(written: list[tuple[bytes, bytes, bytes]]) -> None:
    binary = parse_ima(b"".join(entry for entry, _, _ in written))
    text = parse_ima(b"".join(line for _, line, _ in written))
    assert [entry.data for entry in binary.entries] == [data for _, _, data in written]
    assert text.entries == binary.entries
    assert replay(text) == replay(binary)


@pytest.mark.parametrize(("kept", "largest"), [(16_384, 512), (2, 512), (16_384, 0), (0, 0)])
def test_what_is_kept_changes_nothing(monkeypatch: pytest.MonkeyPatch, kept: int, largest: int) -> None:
    """Entries that were right once are known again; others are read, wherever the line is drawn."""
    monkeypatch.setattr(ima, "_KEPT", kept)
    monkeypatch.setattr(ima, "_LARGEST_KEPT", largest)
    violation = write.ima_binary(10, b"ima-ng", NG, digest=bytes(20))
    long = write.ima_data(NAMED, b"/" + b"x" * 1_000 + b"\0")
    honest = [write.ima_binary(10, b"ima-ng", data) for data in (NG, long, NG)] + [violation]
    for _ in range(2):
        log = parse_ima(b"".join(honest * 3))
        assert [entry.data for entry in log.entries] == [NG, long, NG, NG] * 3
        values = values_after_each(log, "sha256")
        assert len(values) == 13
        for count, value in enumerate(values[1:], 1):
            assert replay(replace(log, entries=log.entries[:count]), ["sha256"]) == {"sha256": {10: value}}
        assert values_after_each(log, "sha1")[-1] == replay(log, ["sha1"])["sha1"][10]
        with pytest.raises(LogRefused, match="entry 4: the template digest"):
            parse_ima(b"".join([*honest, honest[0][:-2] + b"!\0"]))


def test_an_entry_that_is_known_in_one_hash_is_not_known_in_another() -> None:
    entry = write.ima_binary(10, b"ima-ng", NG, alg="sha256")
    assert parse_ima(entry).alg == "sha256"
    with pytest.raises(LogRefused):
        parse_ima(write.ima_binary(10, b"ima-ng", NG) + entry)


@settings(max_examples=500)
@given(
    st.sampled_from(DAMAGED),
    st.lists(st.tuples(st.integers(0, min(map(len, DAMAGED)) - 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_list_is_read_or_refused(honest: bytes, changes: list[tuple[int, int]]) -> None:
    untrusted = bytearray(honest)
    for offset, value in changes:
        untrusted[offset] = value
    read_or_refuse(bytes(untrusted))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"10 " + tail + b"\n"))
def test_noise_is_read_or_refused(untrusted: bytes) -> None:
    read_or_refuse(untrusted)


def read_or_refuse(untrusted: bytes) -> None:
    try:
        log = parse_ima(untrusted)
    except LogRefused:
        return
    assert replay(log)
