# SPDX-License-Identifier: Apache-2.0
"""Seeds of logs, quotes and keys, and what holds for whatever they were made into."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from documents.event import MeasuredEvent
from lab import boot_logs as lab
from lab import event_logs as write
from lab.boot_logs import IMAGE, MACHINE
from lab.paper_tpm import AK_ATTRIBUTES, EccAk, attest, sized
from measure import boot_contents, bootlog, cel, ima, systemd_log
from measure.boot import Booted, boot_findings, explain
from measure.boot_events import BootState, decode
from measure.errors import LogRefused, QuoteRefused
from measure.ima_entries import buffer_of, file_of
from measure.pcr import PCRS
from measure.quirks import QUIRKS
from measure.quote import verify_quote
from measure.replay import FORMATS, replay_ima, replay_log
from measure.structures import parse_public, parse_signature

NONCE = b"sixteen bytes or more"
VALUES = {"sha256": {index: bytes([index]) * 32 for index in (0, 7, 12, 13)}, "sha384": {13: b"\x13" * 48}}
ATTEST = attest(NONCE, VALUES)
WORDS = ("enter-initrd", "leave-initrd", "sysinit", "ready")
SHA256 = hashlib.sha256


# Boot logs


def boot_log_seeds() -> list[bytes]:
    """A whole boot; a CCEL; a log of many banks with silent events; the older form."""
    banks = ("sha384", "sha1", "sha512", "sha256")
    zeros = {alg: bytes(write.SIZE[alg]) for alg in banks}
    told = (write.startup_locality(3), write.manifest(), b"")
    silent = b"".join(write.event2(0, write.NO_ACTION, zeros, data) for data in told)
    return [
        replace(MACHINE, locality=3).boot_log(),
        write.header(("sha384",)) + write.measured(2, write.SEPARATOR, bytes(4), ("sha384",)) + b"\xff" * 300,
        write.header(banks, vendor=b"vendor") + silent + write.measured(7, write.SEPARATOR, b"", banks),
        b"".join(write.sha1_event(pcr, write.SEPARATOR, b"d" * 20, b"data") for pcr in range(4)),
    ]


def check_boot_log(folder: Path, untrusted: bytes) -> None:
    """Values are of PCRs and have their bank's size, and each quirk is one of the table."""
    log = bootlog.parse_boot_log(untrusted)
    for alg, values in bootlog.replay(log).items():
        assert all(index < PCRS and len(value) == write.SIZE[alg] for index, value in values.items())
    assert set(log.quirks) <= QUIRKS.keys()
    assert replay_log(untrusted).format in FORMATS
    if "sha256" in log.banks:
        _require_state(decode(log))


def _require_state(state: BootState) -> None:
    assert len(state.places) == len(state.applications)
    for text in (*state.unknown, *state.places, *(manifest.firmware for manifest in state.manifests)):
        assert text.isprintable()
        assert len(text) <= 500


def explain_seeds() -> list[bytes]:
    """The log of the machine whose TPM is known."""
    return [MACHINE.boot_log()]


def check_explained(folder: Path, untrusted: bytes) -> None:
    """A log that adds up to the values of the TPM is judged as the true one is, or fails."""
    found = explain(untrusted, MACHINE.ima_list(), MACHINE.matches())
    failed = any(finding.outcome == "fail" for finding in boot_findings(found, IMAGE))
    assert failed or _judged(found.state) == _judged(_true().state)


@cache
def _true() -> Booted:
    return explain(MACHINE.boot_log(), MACHINE.ima_list(), MACHINE.matches())


def _judged(state: BootState) -> BootState:
    """Without what is told for people, and drivers, of which one can be hidden."""
    return replace(state, places=(), manifests=(), drivers=(), quirks=())


def contents() -> list[bytes]:
    """Data of events of every kind that is looked into."""
    node = lab.node(4, 4, "\\EFI\\Linux\\a.efi\0".encode("utf-16-le")) + lab.node(4, 6, bytes(16))
    return [
        lab.image_load(lab.node(1, 1, b"\1\2") + lab.node(4, 1, bytes(38)) + node),
        *(write.manifest(number) for number in (1, 2, 3)),
        lab.tagged(boot_contents.LINUX_INITRD, b"Linux initrd\0"),
        b"kernel_cmdline: /vmlinuz quiet\0",
        "quiet\0".encode("utf-16-le"),
    ]


def check_contents(folder: Path, untrusted: bytes) -> None:
    """Nothing raises, and a text is what its digest is of."""
    place, manifest = boot_contents.place_of(untrusted), boot_contents.manifest_of(untrusted)
    for text in (place, manifest.firmware if manifest else ""):
        assert len(text) <= 300
        assert text.isprintable()
    boot_contents.tag_of(untrusted)
    for measured in (untrusted, untrusted[16:], untrusted[16:-1]):
        found = boot_contents.measured_text(untrusted, SHA256(measured).digest())
        if found is not None:
            told = (found.text.encode(), (found.text + "\0").encode(), (found.text + "\0").encode("utf-16-le"))
            assert measured in told


# IMA lists

FIELDS = {
    b"ima-ng": (b"sha256:\0" + b"d" * 32, b"/usr/bin/qemu\0"),
    b"ima-sigv2": (b"verity:sha256:\0" + b"d" * 32, b"/usr/bin/vmgate\0", b"\3\2sig"),
    b"ima-buf": (b"sha256:\0" + SHA256(b"quiet").digest(), b"kexec-cmdline\0", b"quiet"),
    b"ima-modsig": (b"sha256:\0" + b"d" * 32, b"/lib/module.ko\0", b"", b"sha256:\0" + b"e" * 32, b"\1"),
}
PRINTED = {
    b"ima-ng": (b"sha256:" + b"64" * 32, b"/usr/bin/qemu"),
    b"ima-sigv2": (b"verity:sha256:" + b"64" * 32, b"/usr/bin/vmgate", b"0302736967"),
    b"ima-buf": (b"sha256:" + SHA256(b"quiet").hexdigest().encode(), b"kexec-cmdline", b"7175696574"),
    b"ima-modsig": (b"sha256:" + b"64" * 32, b"/lib/module.ko", b"", b"sha256:" + b"65" * 32, b"01"),
}
OLD = b"d" * 20 + b"/bin/init".ljust(256, b"\0")


def ima_binary_seeds() -> list[bytes]:
    """Lists of each template, of two hashes, with a violation."""
    old = (10).to_bytes(4, "little") + hashlib.sha1(OLD).digest() + b"\3\0\0\0ima" + b"d" * 20
    old += len(b"/bin/init").to_bytes(4, "little") + b"/bin/init"
    lists = [
        b"".join(write.ima_binary(10, name, write.ima_data(*fields), alg=alg) for name, fields in FIELDS.items())
        for alg in ("sha1", "sha256")
    ]
    violation = write.ima_binary(10, b"ima-ng", write.ima_data(*FIELDS[b"ima-ng"]), digest=bytes(20))
    return [*lists, old + lists[0] + violation]


def ima_ascii_seeds() -> list[bytes]:
    """The same, printed."""
    return [
        b"".join(
            write.ima_ascii(10, name, write.ima_data(*fields), *PRINTED[name], alg=alg)
            for name, fields in FIELDS.items()
        )
        for alg in ("sha1", "sha256")
    ] + [write.ima_ascii(10, b"ima", OLD, b"64" * 20, b"/bin/init")]


def check_ima(folder: Path, untrusted: bytes) -> None:
    """What entries say is in their data, and each entry's data was hashed to its digest."""
    log = ima.parse_ima(untrusted)
    assert replay_ima(untrusted).events == len(log.entries)
    for entry in log.entries:
        assert entry.violation or hashlib.new(log.alg, entry.data).digest() == entry.digest
        for read in (file_of, buffer_of):
            try:
                found = read(entry)
            except LogRefused:
                continue
            assert found.digest in entry.data
            assert found.name.encode("latin-1") in entry.data


TEMPLATES = ("ima", *(name.decode() for name in FIELDS), "ima-sig", "ima-ngv2", "evm-sig", "d-ng|n-ng")


def ima_entries() -> list[bytes]:
    """Data of entries, behind a byte that chooses the template."""
    data = [OLD, *(write.ima_data(*fields) for fields in FIELDS.values())]
    return [bytes([number]) + content for number, content in enumerate(data)]


def check_ima_entry(folder: Path, untrusted: bytes) -> None:
    """Data that no digest covers, as in a violation: what is said of it is in it, each byte in one field."""
    if not untrusted:
        return
    template, data = TEMPLATES[untrusted[0] % len(TEMPLATES)], untrusted[1:]
    entry = ima.ImaEntry(10, template, b"d" * 20, data)
    found = buffer_of(entry) if template == "ima-buf" else file_of(entry)
    name = found.name.encode("latin-1")
    assert name
    assert b"\0" not in name
    if template == "ima":
        assert data == (found.digest + name).ljust(276, b"\0")
        return
    verity = {True: b"verity:", False: b"ima:" if template.endswith("v2") else b""}[getattr(found, "verity", False)]
    assert data.startswith(write.ima_data(verity + found.alg.encode() + b":\0" + found.digest, name + b"\0"))


# JSON


def systemd_seeds() -> list[bytes]:
    """The phases of a boot, and what else systemd measures."""
    banks = ("sha1", "sha256")
    phases = b"".join(write.systemd_record(11, word, banks) for word in WORDS)
    key = write.systemd_record(15, "cryptsetup:root:uuid", banks, measured=b"the HMAC of a key")
    return [phases, phases + key + write.systemd_record(None, "login:root")]


def check_systemd(folder: Path, untrusted: bytes) -> None:
    """Values are of PCRs, and a text that counts as measured was."""
    records = systemd_log.parse_systemd_log(untrusted)
    for alg, values in systemd_log.replay(records).items():
        assert all(index < PCRS and len(value) == write.SIZE[alg] for index, value in values.items())
    for record in records:
        if record.proven():
            content = record.text.encode(errors="surrogatepass")
            assert all(hashlib.new(alg, content).digest() == digest for alg, digest in record.digests.items())
    assert replay_log(untrusted).events == len(records)


def cel_seeds() -> list[bytes]:
    """Our own log."""
    events = [(13, MeasuredEvent(event="component", subject="repository", fsverity="ab" * 32))] * 3
    return [
        b"".join(cel.encode_record(cel.record(n, pcr, event, banks)) for n, (pcr, event) in enumerate(events))
        for banks in (("sha256",), ("sha1", "sha256", "sha384"))
    ]


def check_cel(folder: Path, untrusted: bytes) -> None:
    """What is read is what is written."""
    records = cel.parse_log(untrusted)
    assert b"".join(map(cel.encode_record, records)) == untrusted


# Quotes


def check_attest(folder: Path, untrusted: bytes) -> None:
    """Signed by the key itself, so that it is read to its end."""
    quote = verify_quote(untrusted, EccAk().sign(untrusted), EccAk().public, NONCE)
    banks = [alg for alg, _ in quote.selection]
    assert len(set(banks)) == len(banks) > 0
    for _, indexes in quote.selection:
        assert list(indexes) == sorted(set(indexes))
        assert indexes[-1] < PCRS
    # The digest was made over the values of the selection that was signed: only that selection fits.
    assert not quote.fits(VALUES) or quote.selection == (("sha256", (0, 7, 12, 13)), ("sha384", (13,)))


def signatures() -> list[bytes]:
    """Of each scheme and hash, of nobody: a real one would be another at each run."""
    return [
        *(struct.pack(">HH", 0x0018, alg) + sized(b"r" * 32) + sized(b"s" * 32) for alg in (0x0004, 0x000B, 0x000C)),
        *(struct.pack(">HH", scheme, 0x000B) + sized(b"v" * 256) for scheme in (0x0014, 0x0016)),
    ]


def check_signature(folder: Path, untrusted: bytes) -> None:
    """Whatever is read verifies under no key."""
    parse_signature(untrusted)
    for public in publics():
        with pytest.raises(QuoteRefused):
            verify_quote(ATTEST, untrusted, public, NONCE)


def publics() -> list[bytes]:
    """Of keys of each kind; nobody knows the factors of such a modulus."""
    rsa = [
        struct.pack(">HHIHHHHHI", 0x0001, 0x000B, AK_ATTRIBUTES, 0, 0x0010, scheme, 0x000B, bits, 0)
        + sized(b"\xc5" * (bits // 8))
        for scheme, bits in ((0x0014, 2048), (0x0016, 3072))
    ]
    return [EccAk().public, *rsa]


def check_public(folder: Path, untrusted: bytes) -> None:
    """Whatever is read is a key of a size that is accepted."""
    assert parse_public(untrusted).key.key_size in {256, 2048, 3072, 4096}
