# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: for each parser its seeds, what must hold for all that it lets through, and the errors it may raise.

Seeds come from our own encoders, and are the same at every run with the same packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Root

from agent import role_file
from agent import settings as host_settings
from agent.errors import PorterAway, RolesWrong, ServerRefused, SettingsWrong
from agent.set_errors import SetRefused
from agent.vm_errors import GuestTpmFailed
from agent.windows import DAY_MINUTES, SHORTEST, is_open, read_window
from content.device_mapper import MAX_QUESTION, NO, reply
from documents.bundle import BundleEntry, BundleIndex
from documents.canonical import decode, encode
from documents.document import Document
from documents.errors import DocumentError, VmgateError
from documents.fields import NAME, Fields
from documents.management import USER
from documents.release import Release
from documents.security_policy import SecurityPolicy
from documents.verdict import Finding
from documents.waves import HOSTS, read_waves
from fleet.errors import PageRefused
from fuzz import (
    certificates,
    evidence,
    fleets,
    guests,
    images,
    log_servers,
    measured,
    metadata,
    packs,
    porters,
    results,
    vm_sets,
)
from hypervisor.errors import (
    ConfigurationUnreadable,
    IntrospectionError,
    Qcow2Malformed,
    Qcow2Refused,
    UnreadableDomain,
)
from hypervisor.qcow2 import MAX_HEADER, MAX_NAME, parse_header
from hypervisor.qcow2_rules import MAX_VIRTUAL_SIZE, require_plain
from hypervisor.virt_conf import parse_configuration
from keys.addresses import FileAddress, parse_address
from keys.errors import RequestUnproven, SignersMalformed, UnknownSigner
from keys.roles import role
from keys.signers import SIGNERS, declared
from lab.corims import NOW, SMALL, CorimKey, cbor
from lab.documents import DOCUMENTS, releases
from lab.qcow2 import GOOD as IMAGES
from measure.corim import MEDIA_TYPE, encode_corim
from measure.corim_reader import read_corim_of_verified_target, read_signed_corim
from measure.errors import (
    CertificateMalformed,
    CorimRefused,
    CorimUntrusted,
    IdentityRefused,
    LogRefused,
    QuoteRefused,
    ResultRefused,
    RootsUnusable,
)
from measure.kernel_arguments import argument_findings, words
from updater.bundle import MAGIC, BundleReader, encode_head
from updater.errors import BundleMalformed, PackMalformed
from updater.repository.ceremony import read_request
from updater.repository.errors import RequestMalformed

MIB = 1024 * 1024
CORIM_KEY = CorimKey()
HEADER = cbor({1: -7, 3: MEDIA_TYPE, 4: b"a hint", 8: cbor({0: {0: "A publisher of some name"}})})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One parser.

    Attributes:
        seeds: makes well-formed bytes.
        check: parses bytes, with a folder to write to, and asserts what holds for what was let through.
        errors: all that may come out of it.
        form: see ``fuzz.mutations.mutated``.
        words: see there.
        most: bytes of Python's memory.
    """

    seeds: Callable[[], Sequence[bytes]]
    check: Callable[[Path, bytes], object]
    errors: tuple[type[VmgateError], ...]
    form: str = "binary"
    words: tuple[bytes, ...] = ()
    most: int = 32 * MIB


def examples(strategy: st.SearchStrategy[Any], count: int = 8) -> list[bytes]:
    """The longest of some documents that a strategy makes: they have the most to change."""
    found: set[bytes] = set()

    # Said here again, although the profile says it: without it a case could not be made again.
    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(document: Any) -> None:
        found.add(document.encode())

    collect()
    return sorted(found, key=lambda data: (len(data), data))[-count:]


def _document(kind: type[Document]) -> Subject:
    def check(folder: Path, untrusted: bytes) -> None:
        assert kind.parse(untrusted).encode() == untrusted

    return Subject(seeds=lambda: examples(DOCUMENTS[kind]), check=check, errors=(DocumentError,), form="json")


def _waves() -> list[bytes]:
    found = (decode(data, Release.LIMIT) for data in examples(releases("platform", "platform"), 40))
    return [encode({"waves": release["waves"]}) for release in found if "waves" in release]


def _check_waves(folder: Path, untrusted: bytes) -> None:
    fields = Fields(decode(untrusted, Release.LIMIT), "release")
    waves = read_waves(fields)
    fields.finish()
    assert not waves or waves[-1].share == HOSTS
    assert list(waves) == sorted(waves, key=lambda wave: wave.after)


def _check_mapper(folder: Path, untrusted: bytes) -> None:
    # No device of this machine is checked by dm-verity, whatever is asked.
    assert reply(untrusted[:MAX_QUESTION]) == NO


def _check_window(folder: Path, untrusted: bytes) -> None:
    window = read_window(untrusted.decode(errors="replace"))
    if window is not None:
        assert window.days
        assert SHORTEST <= window.end - window.start <= DAY_MINUTES
        assert isinstance(is_open([window], UTC, 1_795_000_000), bool)


def _check_settings(folder: Path, untrusted: bytes) -> None:
    found = host_settings.parse(untrusted, "vmgate.toml")
    assert all(NAME.fullmatch(channel) for channel in found.channels)
    assert len(set(found.channels)) == len(found.channels)
    assert len(set(found.mirrors)) == len(found.mirrors)
    assert found.bandwidth == 0 or found.bandwidth in host_settings.BANDWIDTHS


ROLES_TOML = (
    b'[[grant]]\nrole = "operator"\ngroup = "vm-operators"\n',
    b'# all\n[[grant]]\nrole = "user"\nuser = "ann"\nvms = ["a", "*"]\n[[grant]]\nrole = "auditor"\nuser = "b"\n',
)


def _check_roles(folder: Path, untrusted: bytes) -> None:
    found = role_file.parse(untrusted)
    assert all((grant.role == USER) == bool(grant.vms) for grant in found)
    assert role_file.parse(b"\n".join(role_file.encode(grant) for grant in found)) == found


def _check_signers(folder: Path, untrusted: bytes) -> None:
    (folder / SIGNERS).write_bytes(untrusted)
    for name, uri in declared(folder).items():
        role(name.rpartition("-")[0])
        assert isinstance(uri, str)


def _check_address(folder: Path, untrusted: bytes) -> None:
    address = parse_address(untrusted.decode(errors="surrogateescape"))
    if isinstance(address, FileAddress):
        assert address.path.is_absolute()
    else:
        assert address.token
        assert address.label or address.identifier
        assert all(path is None or path.is_absolute() for path in (address.module, address.pin_file))


VIRT_CONF = (
    b'# libvirt\nuser = "libvirt-qemu"\nnamespaces = [ "mount", "x" ]\nmax_core = 0\nvnc_listen = \'::1\'\n',
    b'access_drivers = [\n  "polkit", # so\n]\naudit_level = -2\nnote = """two\nlines"""\n',
)


def _check_virt_conf(folder: Path, untrusted: bytes) -> None:
    for name, value in parse_configuration(untrusted).items():
        assert name.encode() in untrusted
        assert isinstance(value, int | str) or all(isinstance(item, str) for item in value)


def _check_arguments(folder: Path, untrusted: bytes) -> None:
    assert all(word.isprintable() and word.isascii() for word in words(untrusted))
    policy = SecurityPolicy(
        allow=(), max_vcpus=1, max_memory_mib=64, kernel_required=("iommu=*",), kernel_denied=("init=*",)
    )
    findings = list(argument_findings(untrusted, policy))
    assert [finding.subject for finding in findings] == ["iommu=*", "init=*"]
    assert all(Finding.read(finding.members()) == finding for finding in findings)


def _check_qcow2(folder: Path, untrusted: bytes) -> None:
    """All that is read comes from the header's own bytes, and what is let through names nothing but a backing file."""
    header = parse_header(untrusted)
    for name in (header.backing_file, header.backing_format, header.data_file):
        assert not name or (name.encode() in untrusted[:MAX_HEADER] and len(name.encode()) <= MAX_NAME)
    require_plain(header, len(untrusted), "base", "disk")
    assert header.data_file is None
    assert header.encryption == header.snapshots == header.bitmaps == 0
    assert header.virtual_size <= MAX_VIRTUAL_SIZE
    assert (header.backing_file is None) == (header.backing_format is None)


def _check_corim(folder: Path, untrusted: bytes) -> None:
    """What is let through was encoded in the one way, in sets that are whole; what is passed over changes no value."""
    sets = read_corim_of_verified_target(untrusted, NOW)
    assert read_corim_of_verified_target(encode_corim(sets), NOW) == sets
    assert all(entry.components for entry in sets)
    assert len({(entry.channel, entry.number) for entry in sets}) == len(sets)


def _check_corim_header(folder: Path, untrusted: bytes) -> None:
    """A header of a signature that is right: whoever signs can say what it will."""
    signed = CORIM_KEY.signed(untrusted, encode_corim([SMALL]))
    assert read_signed_corim(signed, CORIM_KEY.public, NOW) == (SMALL,)


FILES = {
    "metadata/timestamp.json": b"{}",
    "targets/releases/platform/current.json": b"a release",
    "blobs/ab/" + "ab" * 32: b"",
}
FILES |= {"packs/cd/" + "cd" * 32 + "/head": bytes(range(60))}


def _index() -> BundleIndex:
    entries, offset = [], 0
    for name in sorted(FILES):
        entries.append(BundleEntry(name=name, offset=offset, length=len(FILES[name])))
        offset += len(FILES[name])
    return BundleIndex(entries=tuple(entries))


BODY = b"".join(FILES[name] for name in sorted(FILES))


def _check_bundle(folder: Path, untrusted: bytes) -> None:
    path = folder / "untrusted.bundle"
    path.write_bytes(untrusted)
    with BundleReader(path) as reader:
        read = [b"".join(reader.stream(entry.name)) for entry in reader.index.entries]
        assert encode_head(reader.index) + b"".join(read) == untrusted


def _check_layout(folder: Path, untrusted: bytes) -> None:
    """An index, with the rest of a bundle about it."""
    _check_bundle(folder, MAGIC + len(untrusted).to_bytes(8) + untrusted + BODY)


def _check_request(folder: Path, untrusted: bytes) -> None:
    reading = read_request(untrusted)
    assert reading.request.encode() == untrusted
    for untrusted_part, said in zip(reading.request.parts, reading.facts, strict=True):
        _require_said(untrusted_part.metadata, "\n".join(said))


def _require_said(untrusted: bytes, said: str) -> None:
    """Whoever signs sees every key that gets power, and over what."""
    signed = Metadata[Any].from_bytes(untrusted).signed
    roles = list(signed.roles.values()) if isinstance(signed, Root) else []
    if not isinstance(signed, Root) and signed.delegations is not None:
        roles = list((signed.delegations.roles or {}).values())
        assert signed.delegations.succinct_roles is None
        assert all(path in said for delegated in roles for path in delegated.paths)
    assert all(str(keyid) in said for given in roles for keyid in given.keyids)


def _part(name: str) -> Subject:
    """The metadata of one role, in a request that is right but for it."""

    def check(folder: Path, untrusted: bytes) -> None:
        _check_request(folder, metadata.request({name: untrusted}))

    return Subject(
        seeds=lambda: [metadata.PARTS[name], *metadata.OTHERS],
        check=check,
        errors=(DocumentError, RequestMalformed),
        form="json",
    )


SETTINGS = (
    b"""\
repository = "https://updates.example.org/vmgate"
channels = ["platform", "work"]
host = "desk-7.example.org"
tpm = "device:/dev/tpmrm0"
libvirt = "qemu:///system"
hook = "/etc/libvirt/hooks/qemu"
accelerator = "kvm"
mirrors = ["https://near.example.org/vmgate", "http://[::1]:8080"]
proxy = "http://proxy.example.org:3128"
ca_file = "/etc/vmgate/site-ca.pem"
bandwidth = 1_000_000
""",
    b"""\
channels = ["platform"]
[update]
windows = ["Mon-Fri 22:00-05:00", "Sat,Sun 00:00-24:00"]
timezone = "Europe/Berlin"
metered = "never"
stale_days = 14
hook_seconds = 10
notice_seconds = 0
stop_seconds = 60
""",
)
SIGNERS_TOML = (
    b"""\
[signers]
root-1 = "pkcs11:token=vendor;object=root-1"
releases-platform-1 = "file:/media/key/releases.pem"
""",
    b'signers = { timestamp-1 = "file:/srv/t.pem", snapshot-1 = "file:/srv/s.pem" }',
)
ADDRESSES = (
    b"file:/media/key/root-1.pem",
    b"pkcs11:token=vendor;serial=0123;object=root-1;id=%01%02?module-path=/usr/lib/softhsm2.so&pin-source=file:/run/pin",
    b"pkcs11:token=The%20Vendor;id=%00",
)
WINDOWS = (b"Mon-Fri 22:00-05:00", b"Sat,Sun 00:00-24:00", b"01:30-04:00", b"Fri-Mon,Wed 23:59-00:59")

COMMAND_LINES = (b'BOOT_IMAGE=/vmlinuz root=/dev/vda1 iommu=force quiet dyndbg="file a +p" -- single\n', b"\n")

SUBJECTS: dict[str, Subject] = {
    **{kind.TYPE.removeprefix("vmgate."): _document(kind) for kind in DOCUMENTS},
    "result": Subject(seeds=results.claims, check=results.check_claims, errors=(ResultRefused,), form="json"),
    "porter-question": Subject(seeds=porters.questions, check=porters.check_question, errors=()),
    "porter-answer": Subject(seeds=porters.answers, check=porters.check_answer, errors=(PorterAway,)),
    "mapper-question": Subject(seeds=lambda: [b"254:0\n", b"8:17\n"], check=_check_mapper, errors=()),
    "waves": Subject(seeds=_waves, check=_check_waves, errors=(DocumentError,), form="json"),
    "bundle-file": Subject(
        seeds=lambda: [encode_head(_index()) + BODY], check=_check_bundle, errors=(BundleMalformed,)
    ),
    "bundle-layout": Subject(
        seeds=lambda: [_index().encode()], check=_check_layout, errors=(BundleMalformed,), form="json"
    ),
    "ceremony": Subject(
        seeds=lambda: (
            [metadata.request({name: data}) for name, data in metadata.PARTS.items()]
            + [metadata.request(metadata.PARTS)]
        ),
        check=_check_request,
        errors=(DocumentError, RequestMalformed),
        form="json",
    ),
    **{f"ceremony-{name}": _part(name) for name in metadata.PARTS},
    "boot-log": Subject(seeds=evidence.boot_log_seeds, check=evidence.check_boot_log, errors=(LogRefused,)),
    "boot-log-explained": Subject(seeds=evidence.explain_seeds, check=evidence.check_explained, errors=(LogRefused,)),
    "boot-event": Subject(seeds=evidence.contents, check=evidence.check_contents, errors=()),
    "ima-binary": Subject(seeds=evidence.ima_binary_seeds, check=evidence.check_ima, errors=(LogRefused,)),
    "ima-entry": Subject(seeds=evidence.ima_entries, check=evidence.check_ima_entry, errors=(LogRefused,)),
    "ima-ascii": Subject(
        seeds=evidence.ima_ascii_seeds,
        check=evidence.check_ima,
        errors=(LogRefused,),
        form="text",
        words=(b" ", b"\n", b"ima-ng", b"ima-sig", b"d-ng|n-ng", b"sha256:", b"verity:", b":", b"00" * 20, b"11"),
    ),
    "systemd-log": Subject(
        seeds=evidence.systemd_seeds,
        check=evidence.check_systemd,
        errors=(LogRefused,),
        form="text",
        words=(b"\x1e", b"\n", b'"pcr":11', b'"nv_index":1', b'"sha256"', b"00" * 32, b"sm3_256", b"{", b"}", b","),
    ),
    "cel-log": Subject(
        seeds=evidence.cel_seeds,
        check=evidence.check_cel,
        errors=(LogRefused,),
        form="text",
        words=(b'"pcr":12', b'"recnum":1', b'"sha256"', b"\n", b"00" * 32, b"vmgate"),
    ),
    "quote": Subject(seeds=lambda: [evidence.ATTEST], check=evidence.check_attest, errors=(QuoteRefused,)),
    "quote-signature": Subject(seeds=evidence.signatures, check=evidence.check_signature, errors=(QuoteRefused,)),
    "public-area": Subject(seeds=evidence.publics, check=evidence.check_public, errors=(QuoteRefused,)),
    "vm-set-file": Subject(seeds=vm_sets.files, check=vm_sets.check_file, errors=(SetRefused,)),
    "pack-head": Subject(seeds=packs.heads, check=packs.check_head, errors=(PackMalformed,)),
    "pack-record": Subject(seeds=packs.records, check=packs.check_record, errors=(PackMalformed,)),
    "compressed": Subject(seeds=packs.frames, check=packs.check_frame, errors=(PackMalformed,)),
    "compressed-after": Subject(seeds=packs.frames_after, check=packs.check_frame_after, errors=(PackMalformed,)),
    "delta": Subject(seeds=packs.deltas, check=packs.check_delta, errors=(PackMalformed,)),
    "delta-tables": Subject(seeds=packs.tables, check=packs.check_tables, errors=(PackMalformed,)),
    "ek-certificate": Subject(seeds=certificates.leaves, check=certificates.check_leaf, errors=(CertificateMalformed,)),
    "ek-chain": Subject(seeds=certificates.chains, check=certificates.check_chain, errors=(CertificateMalformed,)),
    "ek-roots": Subject(seeds=certificates.files, check=certificates.check_file, errors=(RootsUnusable,)),
    "ek-revoked": Subject(
        seeds=lambda: [b"# stolen\n" + b"ab" * 32 + b"\n0a1b " + b"cd" * 32 + b"  # desk 7\n"],
        check=certificates.check_revoked,
        errors=(RootsUnusable,),
        form="text",
        words=(b"#", b" ", b"\n", b"0" * 64),
    ),
    "ek-public": Subject(seeds=certificates.publics, check=certificates.check_public, errors=(IdentityRefused,)),
    "qcow2": Subject(
        seeds=lambda: [image.encode().ljust(0x31000, b"\0") for image in IMAGES],
        check=_check_qcow2,
        errors=(Qcow2Malformed, Qcow2Refused),
    ),
    "qcow2-disk": Subject(seeds=images.disks, check=images.check_disk, errors=(Qcow2Malformed, Qcow2Refused)),
    "domain-taken-over": Subject(
        seeds=lambda: [images.DOMAIN],
        check=images.check_domain,
        errors=(UnreadableDomain,),
        words=(b"memory", b"unit='GiB'", b"vcpu", b"title", b"<!DOCTYPE"),
    ),
    "definition-toml": Subject(
        seeds=lambda: [images.DEFINITION],
        check=images.check_definition,
        errors=(DocumentError,),
        words=(b"[[disks]]", b"class", b"[introspection]", b"=", b'"', b"\n"),
    ),
    "corim": Subject(
        seeds=lambda: [encode_corim([SMALL]), encode_corim([SMALL, replace(SMALL, number=8)])],
        check=_check_corim,
        errors=(CorimRefused,),
    ),
    "corim-header": Subject(
        seeds=lambda: [HEADER, cbor({1: -7, 3: MEDIA_TYPE, 8: cbor({0: {0: "tests"}})})],
        check=_check_corim_header,
        errors=(CorimRefused, CorimUntrusted),
    ),
    "cel-cbor": Subject(
        seeds=measured.logs,
        check=measured.check_log,
        errors=(LogRefused,),
        words=(b"\x9f", b"\xff", b"\xd9\xd9\xf7", b"\xc2\x41\x00", b"\xd8\x1e\x82\x01\x00", b"\xf9\x7e\x00"),
    ),
    "vtpm-size": Subject(seeds=measured.sizes, check=measured.check_size, errors=(GuestTpmFailed,)),
    "vtpm-piece": Subject(seeds=measured.pieces, check=measured.check_piece, errors=(GuestTpmFailed,)),
    "vtpm-certificate": Subject(
        seeds=measured.certificates, check=measured.check_certificate, errors=(GuestTpmFailed,)
    ),
    "log-server": Subject(seeds=log_servers.certificates, check=log_servers.check_certificate, errors=(ServerRefused,)),
    "fleet-head": Subject(
        seeds=fleets.heads,
        check=fleets.check_head,
        errors=(RequestUnproven,),
        form="json",
        words=(b"@path", b'"content-digest"', b";created=", b";keyid=", b";tag=", b"sig1=", b"sha-256=:"),
    ),
    "fleet-form": Subject(
        seeds=fleets.forms,
        check=fleets.check_form,
        errors=(PageRefused,),
        form="text",
        words=(b"&", b"=", b"%", b"%00"),
    ),
    "fleet-password": Subject(
        seeds=fleets.passwords, check=fleets.check_password, errors=(), form="text", words=(b"$", b"=", b"sha")
    ),
    "guest-core": Subject(seeds=guests.cores, check=guests.check_core, errors=(IntrospectionError,)),
    "guest-pages": Subject(seeds=guests.tables, check=guests.check_pages, errors=(IntrospectionError,)),
    "guest-types": Subject(seeds=guests.types, check=guests.check_types, errors=(IntrospectionError,)),
    "guest-symbols": Subject(seeds=guests.symbols, check=guests.check_symbols, errors=(IntrospectionError,)),
    "guest-lists": Subject(seeds=guests.lists, check=guests.check_lists, errors=(IntrospectionError,)),
    "guest-answer": Subject(seeds=guests.answers, check=guests.check_answer, errors=(IntrospectionError,), form="json"),
    "settings": Subject(
        seeds=lambda: SETTINGS,
        check=_check_settings,
        errors=(SettingsWrong,),
        form="text",
        words=(b"channels", b"mirrors", b"[update]", b"windows", b"timezone", b'"posixrules"', b"\n", b"= ["),
    ),
    "roles": Subject(
        seeds=lambda: ROLES_TOML,
        check=_check_roles,
        errors=(RolesWrong,),
        form="text",
        words=(b"[[grant]]", b"role = ", b'"user"', b"vms = [", b'"*"', b"group", b"\n"),
    ),
    "windows": Subject(
        seeds=lambda: WINDOWS, check=_check_window, errors=(), form="text", words=(b"24:00", b"Sun", b"-", b",", b" ")
    ),
    "kernel-arguments": Subject(
        seeds=lambda: COMMAND_LINES,
        check=_check_arguments,
        errors=(),
        form="text",
        words=(b'"', b"--", b"=", b" ", b"init="),
    ),
    "signers": Subject(
        seeds=lambda: SIGNERS_TOML,
        check=_check_signers,
        errors=(SignersMalformed,),
        form="text",
        words=(b"[signers]", b"root-0", b"-1", b"releases-", b"tpm-policy-1"),
    ),
    "libvirt-conf": Subject(
        seeds=lambda: VIRT_CONF,
        check=_check_virt_conf,
        errors=(ConfigurationUnreadable,),
        form="text",
        words=(b"= [", b"]", b'"""', b"'", b"#", b"\n", b"user = 1", b"-", b","),
    ),
    "addresses": Subject(
        seeds=lambda: ADDRESSES,
        check=_check_address,
        errors=(UnknownSigner,),
        form="text",
        words=(b";", b"?", b"&", b"token=", b"object=", b"pin-source=", b"pin-value=1", b"%", b"file:"),
    ),
}
