# SPDX-License-Identifier: Apache-2.0
"""A CoRIM read back: reference values as one set for each environment, from whom the caller trusts.

The checks, in their order; the first that fails refuses:

 1. at most ``LIMIT`` bytes, and one deterministic encoding (RFC 8949, 4.2.1), inside of each byte string too;
 2. signed: COSE_Sign1 (tag 18), the algorithm of the key that the caller gave, its signature over header and payload,
    the media type, nothing in the unprotected header, no header that must be understood and is not; or unsigned
    (tag 501), where the caller says that a verified TUF target holds it;
 3. our profile, no CoRIM that it depends on, no other kinds of tags or triples;
 4. within its validity and its signature's, where it says one;
 5. each environment once; each key once; every value of the kind that its key says, none besides.

What an entity or a language says is passed over, as it changes no value. Unlike ``measure.corim`` it reads from others;
it does not look anything up, and does not say that the values are good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from documents.canonical import Json
from documents.errors import DocumentError
from documents.fields import NAME
from documents.host_image import ImageFile
from documents.release import MAX_NUMBER, ReferenceValue
from keys.errors import KeyFileMalformed
from measure import corim
from measure.corim import Environment, Registers, refused
from measure.errors import CorimUntrusted
from measure.formats.plain_cbor import flaw
from measure.pcr import PCRS

T = TypeVar("T")

LIMIT: Final = 16_000_000
"""Bytes of a CoRIM. One of a release with 10,000 files has some 1.5 million."""

MAX_ENVIRONMENTS: Final = 64
MAX_VALUES: Final = 60_000
MAX_KEY: Final = 300

_BOOT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64})?")
_REGISTERS: Final = re.compile(r"(fresh|switch|firmware)/(0|[1-9][0-9]{0,14})/([1-9][0-9]{0,5})")
_DIGEST: Final = 32
_TIME: Final = 1
_TAGS: Final = frozenset({corim.TAG_CORIM, corim.TAG_COMID, corim.TAG_SIGN1, corim.TAG_URI, _TIME})
_SIGNER, _SIGNATURE_VALIDITY = 0, 1
_NOT_BEFORE, _NOT_AFTER = 0, 1


def read_signed_corim(untrusted: bytes, public_pem: bytes, now: int) -> tuple[Environment, ...]:
    """Read a CoRIM that a key has signed.

    Args:
        untrusted: COSE_Sign1 with tag 18.
        public_pem: the one key that is trusted for it, P-256 or P-384.
        now: seconds since 1970 UTC.

    Raises:
        CorimUntrusted: it is not signed, or not by this key.
        CorimRefused: see the checks above.
        KeyFileMalformed: the key is none of these.
    """
    key = _public_key(public_pem)
    sign1 = _open(untrusted)
    if _tag(sign1) != corim.TAG_SIGN1:
        raise _untrusted("it is not signed")
    parts = _items(sign1.value, "its signature", 4)
    if len(parts) != 4:
        raise refused("its signature is not in its form")
    protected, unprotected, payload, signature = parts
    if not isinstance(protected, bytes) or not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise refused("its signature is not in its form")
    _verify(key, protected, payload, signature)
    # The draft would take CWT claims in the place of the meta data; what they say of time is not read here.
    header = _members(_open(protected), "the header", (corim.ALG, corim.CONTENT_TYPE, corim.META), (corim.KID,))
    if unprotected or header[corim.CONTENT_TYPE] != corim.MEDIA_TYPE or header[corim.ALG] != _algorithm(key):
        raise refused("its header says another algorithm or type, or something that is not signed")
    meta = _members(_open(header[corim.META]), "its meta data", (_SIGNER,), (_SIGNATURE_VALIDITY,))
    _require_time(meta.get(_SIGNATURE_VALIDITY), now)
    return read_corim_of_verified_target(payload, now)


def read_corim_of_verified_target(verified_target: bytes, now: int) -> tuple[Environment, ...]:
    """Read a CoRIM without a signature, for who has verified its bytes already: as a TUF target, or by its signature.

    Args:
        verified_target: a CoRIM with tag 501.
        now: seconds since 1970 UTC.

    Raises:
        CorimRefused: see the checks above.
    """
    tag = _open(verified_target)
    if _tag(tag) != corim.TAG_CORIM:
        raise refused("it is no CoRIM with tag 501")
    needed = (corim.ID, corim.TAGS, corim.CORIM_PROFILE)
    members = _members(tag.value, "the CoRIM", needed, (corim.VALIDITY, corim.ENTITIES))
    profile = members[corim.CORIM_PROFILE]
    if _tag(profile) != corim.TAG_URI or profile.value != corim.PROFILE:
        raise refused("it is of another profile")
    _require_time(members.get(corim.VALIDITY), now)
    found = [_comid(part) for part in _items(members[corim.TAGS], "its list of tags", MAX_ENVIRONMENTS)]
    if len({(entry.channel, entry.number) for entry in found}) != len(found):
        raise refused("an environment is there twice")
    return tuple(found)


def reference_values(environments: tuple[Environment, ...], channel: str, number: int) -> tuple[ReferenceValue, ...]:
    """What hosts of one release must have measured into the VMM PCR, in order, and by that release's set alone.

    Raises:
        CorimRefused: there is no set for that release.
    """
    for entry in environments:
        if (entry.channel, entry.number) == (channel, number):
            return entry.components
    raise refused(f"it has no values for {channel}/{number}")


def _open(untrusted: object) -> Any:
    """Decode bytes that hold one item in its deterministic encoding."""
    import cbor2  # noqa: PLC0415 (the command starts without it)

    if not isinstance(untrusted, bytes) or len(untrusted) > LIMIT:
        raise refused(f"a part of it is no byte string, or has more than {LIMIT} bytes")
    wrong = flaw(untrusted, _TAGS)
    if wrong:
        raise refused(wrong)
    try:
        value: object = cbor2.loads(untrusted)
        again = cbor2.dumps(value, canonical=True, datetime_as_timestamp=True, timezone=UTC)
    # A time out of bounds, a text that is no UTF-8, a key that cannot be one: the decoder fails in its own ways.
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError, LookupError, MemoryError) as error:
        raise refused("it is not CBOR") from error
    if again != untrusted:
        raise refused("it is not in the deterministic encoding")
    return value


def _tag(value: object) -> int:
    import cbor2  # noqa: PLC0415

    return value.tag if isinstance(value, cbor2.CBORTag) else -1


def _verify(key: ec.EllipticCurvePublicKey, protected: bytes, payload: bytes, signature: bytes) -> None:
    _, hashed, size = corim.ALGORITHMS[key.curve.name]
    if len(signature) != 2 * size:
        raise _untrusted("its signature is not one of this kind of key")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        key.verify(encode_dss_signature(r, s), corim.to_be_signed(protected, payload), ec.ECDSA(hashed))
    except (InvalidSignature, ValueError) as error:
        raise _untrusted("it is not signed by the key that was given") from error


def _algorithm(key: ec.EllipticCurvePublicKey) -> int:
    return corim.ALGORITHMS[key.curve.name][0]


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in corim.ALGORITHMS:
        raise _no_key("it is no P-256 or P-384 key")
    return key


def _require_time(untrusted: object, now: int) -> None:
    """Refuse what is not valid now; nothing said is valid."""
    if untrusted is None:
        return
    members = _members(untrusted, "its validity", (_NOT_AFTER,), (_NOT_BEFORE,))
    times = [members.get(_NOT_BEFORE, datetime.fromtimestamp(0, UTC)), members[_NOT_AFTER]]
    if not all(isinstance(time, datetime) for time in times):
        raise refused("its validity is no time")
    if not times[0] <= datetime.fromtimestamp(now, UTC) <= times[1]:
        raise refused(f"it is valid from {times[0]} to {times[1]}")


def _comid(untrusted: object) -> Environment:
    if _tag(untrusted) != corim.TAG_COMID:
        raise refused("a tag in it is no CoMID")
    optional = (corim.LANGUAGE, corim.COMID_ENTITIES)
    value: Any = untrusted
    members = _members(_open(value.value), "a CoMID", (corim.IDENTITY, corim.TRIPLES), optional)
    triples = _members(members[corim.TRIPLES], "the triples", (corim.REFERENCE_TRIPLES,))
    records = _items(triples[corim.REFERENCE_TRIPLES], "the reference triples", 1)
    record = _items(records[0], "a reference triple", 2)
    if len(record) != 2:
        raise refused("a reference triple is not an environment and its measurements")
    where = _members(record[0], "an environment", (corim.CLASS,))
    names = (corim.CLASS_VENDOR, corim.CLASS_MODEL, corim.CLASS_INDEX)
    kind = _members(where[corim.CLASS], "a class", names)
    vendor, channel, number = (kind[name] for name in names)
    if vendor != corim.VENDOR or not isinstance(channel, str) or not NAME.fullmatch(channel):
        raise refused("an environment is not of vmgate, or of no channel")
    if type(number) is not int or not 1 <= number <= MAX_NUMBER:
        raise refused("an environment is of no release")
    return _Values(_items(record[1], "the measurements", MAX_VALUES)).environment(channel, number)


class _Values:
    """The measurements of one environment."""

    def __init__(self, untrusted: Sequence[object]) -> None:
        self._components: list[ReferenceValue] = []
        self._registers: list[Registers] = []
        self._boot: list[tuple[str, str]] = []
        self._files: list[ImageFile] = []
        readers: tuple[tuple[str, Callable[[str, dict[int, Any]], None]], ...] = (
            (corim.COMPONENT, self._read_component),
            (corim.REGISTER, self._read_registers),
            (corim.BOOT, self._read_boot),
            (f"{corim.FILE}/", self._read_file),
        )
        seen: set[str] = set()
        for part in untrusted:
            members = _members(part, "a measurement", (corim.MKEY, corim.MVAL))
            key = members[corim.MKEY]
            if not isinstance(key, str) or len(key) > MAX_KEY or key in seen:
                raise refused("a measurement has no key, too long a one, or another's")
            seen.add(key)
            read = next((read for prefix, read in readers if key.startswith(prefix)), None)
            if read is None:
                raise refused(f"key {key!r:.80} is of no kind that is known")
            read(key, members[corim.MVAL])

    def environment(self, channel: str, number: int) -> Environment:
        paths = [file.path for file in self._files]
        if not self._components or paths != sorted(paths):
            raise refused("an environment has no component, or its files are not sorted")
        if len(set(self._registers)) != len(self._registers):
            raise refused("an environment has the same registers twice")
        return Environment(
            channel=channel,
            number=number,
            components=tuple(self._components),
            registers=tuple(self._registers),
            boot=tuple(self._boot),
            files=tuple(self._files),
        )

    def _read_component(self, key: str, untrusted: object) -> None:
        values = _members(untrusted, "a measurement", (corim.DIGESTS,), (corim.VERSION, corim.NAME))
        (digest,) = _read_digests(values[corim.DIGESTS], (corim.FSVERITY,))
        told: dict[str, Json] = {"component": key.removeprefix(corim.COMPONENT), "fsverity": digest}
        if corim.VERSION in values:
            told["version"] = _members(values[corim.VERSION], "a version", (0,))[0]
        if corim.NAME in values:
            told["target"] = values[corim.NAME]
        if not all(isinstance(text, str) for text in told.values()):
            raise refused(f"key {key!r:.80} has a version or target that is no text")
        self._components.append(_document(lambda: ReferenceValue.read(told)))

    def _read_boot(self, key: str, untrusted: object) -> None:
        (digest,) = _digests(untrusted, (corim.SHA256,))
        name = key.removeprefix(corim.BOOT)
        if not _BOOT_NAME.fullmatch(name):
            raise refused(f"key {key!r:.80} names nothing of a boot")
        self._boot.append((name, digest))

    def _read_file(self, key: str, untrusted: object) -> None:
        sha256, fsverity = _digests(untrusted, (corim.SHA256, corim.FSVERITY))
        path = key.removeprefix(corim.FILE)
        self._files.append(_document(lambda: ImageFile.read({"path": path, "sha256": sha256, "fsverity": fsverity})))

    def _read_registers(self, key: str, untrusted: object) -> None:
        named = _REGISTERS.fullmatch(key.removeprefix(corim.REGISTER))
        if named is None or int(named[2]) > MAX_NUMBER or (named[1] == "switch") == (named[2] == "0"):
            raise refused(f"key {key!r:.80} names no registers")
        if int(named[3]) != len(self._registers) + 1:
            raise refused("its registers are not counted from 1")
        values = _members(untrusted, "a measurement", (corim.REGISTERS,))[corim.REGISTERS]
        if not isinstance(values, Mapping) or not 1 <= len(values) <= PCRS:
            raise refused("its registers are none, or too many")
        if any(type(index) is not int or not 0 <= index < PCRS for index in values):
            raise refused("one of its registers is no PCR")
        pcrs = tuple((index, *_read_digests(values[index], (corim.SHA256,))) for index in sorted(values))
        self._registers.append(Registers(entry=named[1], predecessor=int(named[2]), pcrs=pcrs))


def _document(read: Callable[[], T]) -> T:
    try:
        return read()
    except DocumentError as error:
        raise refused(error.cause) from error


def _digests(untrusted: object, algorithms: tuple[int | str, ...]) -> tuple[str, ...]:
    return _read_digests(_members(untrusted, "a measurement", (corim.DIGESTS,))[corim.DIGESTS], algorithms)


def _read_digests(untrusted: object, algorithms: tuple[int | str, ...]) -> tuple[str, ...]:
    """Digests of just these algorithms, in this order, in hexadecimal."""
    found: list[str] = []
    for part, wanted in zip(_items(untrusted, "the digests", len(algorithms)), algorithms, strict=False):
        pair = _items(part, "a digest", 2)
        if len(pair) != 2 or type(pair[0]) is not type(wanted) or pair[0] != wanted:
            raise refused("a digest is of another algorithm than its key asks for")
        digest = pair[1]
        if not isinstance(digest, bytes) or len(digest) != _DIGEST:
            raise refused("a digest is not of its size")
        found.append(digest.hex())
    if len(found) != len(algorithms):
        raise refused("a digest is missing")
    return tuple(found)


def _members(
    untrusted: object, what: str, needed: tuple[int, ...], optional: tuple[int, ...] = ()
) -> Mapping[int, Any]:
    # What lies inside of a tag, the decoder gives as values that cannot be changed.
    if not isinstance(untrusted, Mapping) or any(type(key) is not int for key in untrusted):
        raise refused(f"{what} is not a map of numbered members")
    if not set(needed) <= set(untrusted) <= {*needed, *optional}:
        raise refused(f"{what} lacks a member, or has one that is not known here")
    return untrusted


def _items(untrusted: object, what: str, most: int) -> Sequence[object]:
    if not isinstance(untrusted, list | tuple) or not 1 <= len(untrusted) <= most:
        raise refused(f"{what} is empty, no list, or has more than {most} items")
    return untrusted


def _untrusted(cause: str) -> CorimUntrusted:
    return CorimUntrusted("the CoRIM was not believed", cause=cause, remedy="ask its publisher; check the key you gave")


def _no_key(cause: str) -> KeyFileMalformed:
    return KeyFileMalformed("the CoRIM was not read", cause=cause[:300], remedy="give a P-256 or P-384 public key, PEM")
