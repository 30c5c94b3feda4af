# SPDX-License-Identifier: Apache-2.0
"""Reference values of releases as a CoRIM, for verifiers that are not ours; ``measure.corim_reader`` reads it back.

Source: draft-ietf-rats-corim-10, sections 4.1 (corim-map, tag 501), 4.2 (signed CoRIM, COSE_Sign1 with tag 18) and 5.1
(CoMID, tag 506: reference triples, digests, integrity registers); RFC 9052, 4.4 (what is signed); RFC 8949, 4.2.1 (one
encoding for one value, so the same releases give the same bytes).

The profile ``PROFILE``: one CoMID with one reference triple for each release. Its environment is a class with vendor
``vmgate``, the channel as model and the release's number as index; values of two environments are never mixed. Each
measurement has a text as key:

 - ``component/NAME``: what the VMM PCR is extended with, in that order; a digest of algorithm ``fsverity-sha256``;
 - ``registers/ENTRY/PREDECESSOR/N``: PCR values (SHA-256) that belong together; ENTRY is ``fresh``, ``switch`` or
   ``firmware``, PREDECESSOR the release that a switch comes from, or 0;
 - ``boot/NAME``: SHA-256 of what firmware and kernel image measure, where the release has a host image;
 - ``file/PATH``: SHA-256 and fs-verity digest of each file of the host image.

Integers name the algorithms of IANA's "Named Information" registry. An fs-verity digest is no hash of the bytes and has
no number there, hence its text. This module reads no file and judges nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from documents.host_image import HostImage, ImageFile
from documents.release import ReferenceValue, Release
from keys.errors import KeyFileMalformed
from measure.errors import CorimRefused

PROFILE: Final = "tag:vmgate,2026:corim/reference-values/1"
VENDOR: Final = "vmgate"
MEDIA_TYPE: Final = "application/rim+cbor"

TAG_CORIM, TAG_COMID, TAG_SIGN1, TAG_URI = 501, 506, 18, 32
ID, TAGS, DEPENDENT, CORIM_PROFILE, VALIDITY, ENTITIES = range(6)
"""Members of a corim-map."""

LANGUAGE, IDENTITY, COMID_ENTITIES, LINKED, TRIPLES = range(5)
"""Members of a concise-mid-tag."""

TAG_ID: Final = 0
REFERENCE_TRIPLES: Final = 0
CLASS: Final = 0
CLASS_VENDOR, CLASS_MODEL, CLASS_INDEX = 1, 2, 4
MKEY, MVAL = 0, 1
VERSION, DIGESTS, NAME, REGISTERS = 0, 2, 11, 14
"""Members of a measurement-values-map."""

SHA256: Final = 1
FSVERITY: Final = "fsverity-sha256"

ALG, CONTENT_TYPE, KID, META = 1, 3, 4, 8
"""Members of a COSE header."""

ALGORITHMS: Final[dict[str, tuple[int, hashes.HashAlgorithm, int]]] = {
    "secp256r1": (-7, hashes.SHA256(), 32),
    "secp384r1": (-35, hashes.SHA384(), 48),
}
"""COSE algorithm (ES256, ES384), hash and bytes of each half of a signature, by the key's curve."""

COMPONENT, BOOT, FILE, REGISTER = "component/", "boot/", "file", "registers/"
ENTRIES: Final = ("fresh", "switch", "firmware")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """PCR values that belong together.

    Attributes:
        entry: one of ``ENTRIES``: a fresh boot, a live switch, or what firmware alone extends.
        predecessor: the platform release that a switch comes from; 0 for the others.
        pcrs: (index, SHA-256 value in hexadecimal) in ascending order of index.
    """

    entry: str
    predecessor: int
    pcrs: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The reference values of one release: a set, of which no part counts beside a part of another.

    Attributes:
        channel: the release's.
        number: the release's.
        components: what the VMM PCR is extended with, in order; never empty.
        registers: PCR values, distinct.
        boot: (name, SHA-256) of what firmware and kernel image measure; names are distinct.
        files: of the host image, sorted by path.
    """

    channel: str
    number: int
    components: tuple[ReferenceValue, ...]
    registers: tuple[Registers, ...] = ()
    boot: tuple[tuple[str, str], ...] = ()
    files: tuple[ImageFile, ...] = ()


def environment(release: Release, image: HostImage | None = None) -> Environment:
    """The reference values of a platform release.

    Args:
        release: verified before.
        image: its host image, where it has one and it is wanted too.

    Raises:
        CorimRefused: the release has no reference values.
    """
    if release.authority != "platform" or not release.reference:
        raise refused(f"{release.channel}/{release.number} is no platform release with reference values")
    # The same state is signed for several epochs and keys.
    states = dict.fromkeys(
        Registers(entry=policy.entry, predecessor=policy.predecessor, pcrs=policy.pcrs) for policy in release.policies
    )
    accepted = (Registers(entry="firmware", predecessor=0, pcrs=((0, v),)) for v in (image.firmware if image else ()))
    return Environment(
        channel=release.channel,
        number=release.number,
        components=release.reference,
        registers=(*states, *accepted),
        boot=tuple(_boot(image)) if image else (),
        files=image.files if image else (),
    )


def encode_corim(environments: Iterable[Environment]) -> bytes:
    """A CoRIM of these releases, unsigned: tag 501.

    Raises:
        CorimRefused: none was given, or one twice.
    """
    sets = tuple(environments)
    names = [f"{entry.channel}/{entry.number}" for entry in sets]
    if not sets or len(set(names)) != len(names):
        raise refused("it would have no environment, or one twice")
    corim = {
        ID: f"{VENDOR}:{','.join(names)}",
        TAGS: [tagged(TAG_COMID, dump(_comid(entry))) for entry in sets],
        CORIM_PROFILE: tagged(TAG_URI, PROFILE),
    }
    return dump(tagged(TAG_CORIM, corim))


def sign_corim(corim: bytes, private_pem: bytes, signer: str) -> bytes:
    """A signed CoRIM: COSE_Sign1, tag 18.

    Args:
        corim: from ``encode_corim``.
        private_pem: a P-256 or P-384 key, not encrypted.
        signer: who signs, for people.

    Raises:
        KeyFileMalformed: it is no such key.
    """
    key = _private_key(private_pem)
    algorithm, hashed, size = ALGORITHMS[key.curve.name]
    protected = dump(
        {
            ALG: algorithm,
            CONTENT_TYPE: MEDIA_TYPE,
            KID: key_id(key.public_key()),
            META: dump({0: {0: signer}}),
        }
    )
    r, s = decode_dss_signature(key.sign(to_be_signed(protected, corim), ec.ECDSA(hashed)))
    return dump(tagged(TAG_SIGN1, [protected, {}, corim, r.to_bytes(size, "big") + s.to_bytes(size, "big")]))


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure (RFC 9052, 4.4)."""
    return dump(["Signature1", protected, b"", payload])


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """How a signature names its key: the first 16 bytes of SHA-256 over its SubjectPublicKeyInfo. A hint, no proof."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:16]


def dump(value: object) -> bytes:
    """The deterministic encoding of a value."""
    # Loaded here: the command starts without it.
    import cbor2  # noqa: PLC0415

    return cbor2.dumps(value, canonical=True)


def tagged(number: int, value: object) -> Any:
    """A value with a tag."""
    import cbor2  # noqa: PLC0415

    return cbor2.CBORTag(number, value)


def refused(cause: str) -> CorimRefused:
    """The error for a CoRIM that cannot be used."""
    return CorimRefused("the CoRIM was not used", cause=cause, remedy="ask its publisher for another one")


def _boot(image: HostImage) -> Iterator[tuple[str, str]]:
    yield "application", image.boot_application
    for name, digest in image.sections:
        yield f"section/{name}", digest
    for name, digest in image.variables:
        yield f"variable/{name}", digest
    yield "authority", image.authority


def _comid(entry: Environment) -> dict[int, Any]:
    where = {CLASS: {CLASS_VENDOR: VENDOR, CLASS_MODEL: entry.channel, CLASS_INDEX: entry.number}}
    return {
        IDENTITY: {TAG_ID: f"{VENDOR}:{entry.channel}/{entry.number}"},
        TRIPLES: {REFERENCE_TRIPLES: [[where, list(_measurements(entry))]]},
    }


def _measurements(entry: Environment) -> Iterator[dict[int, Any]]:
    for value in entry.components:
        values: dict[int, Any] = {DIGESTS: [[FSVERITY, bytes.fromhex(value.fsverity)]]}
        # The name of a component's measurement is the TUF target that brought it.
        if value.origin:
            values |= {VERSION: {0: value.origin.version}, NAME: value.origin.target}
        yield _measurement(COMPONENT + value.component, values)
    for number, registers in enumerate(entry.registers, 1):
        values = {index: [[SHA256, bytes.fromhex(value)]] for index, value in registers.pcrs}
        yield _measurement(f"{REGISTER}{registers.entry}/{registers.predecessor}/{number}", {REGISTERS: values})
    for name, digest in entry.boot:
        yield _measurement(BOOT + name, {DIGESTS: [[SHA256, bytes.fromhex(digest)]]})
    for file in entry.files:
        digests = [[SHA256, bytes.fromhex(file.sha256)], [FSVERITY, bytes.fromhex(file.fsverity)]]
        yield _measurement(FILE + file.path, {DIGESTS: digests})


def _measurement(key: str, values: dict[int, Any]) -> dict[int, Any]:
    return {MKEY: key, MVAL: values}


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in ALGORITHMS:
        raise _no_key("it is no P-256 or P-384 key")
    return key


def _no_key(cause: str) -> KeyFileMalformed:
    return KeyFileMalformed("the CoRIM was not signed", cause=cause[:300], remedy="give a P-256 or P-384 key in PEM")
