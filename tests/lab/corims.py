# SPDX-License-Identifier: Apache-2.0
"""CoRIMs for tests: a release's reference values, strategies for others, keys, and a writer of CBOR of its own."""

from __future__ import annotations

import struct
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import strategies as st

from documents.host_image import ImageFile
from documents.release import ReferenceValue
from measure.corim import ENTRIES, Environment, Registers

NOW = 1_800_000_000
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}(/[a-z0-9][a-z0-9._-]{0,10}){0,2}", fullmatch=True)
CHANNELS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
PATHS = st.from_regex(r"/usr/[a-z0-9]{1,8}(/[a-z0-9._+-]{1,12}[a-z0-9]){0,2}", fullmatch=True)
BOOT = st.sampled_from(("application", "authority", "section/.linux", "section/.cmdline", "variable/PK", "variable/db"))


@st.composite
def registers(draw: st.DrawFn) -> Registers:
    """PCR values of any entry."""
    entry = draw(st.sampled_from(ENTRIES))
    return Registers(
        entry=entry,
        predecessor=draw(st.integers(1, 10**6)) if entry == "switch" else 0,
        pcrs=tuple(sorted(draw(st.dictionaries(st.integers(0, 23), DIGESTS, min_size=1, max_size=4)).items())),
    )


@st.composite
def environments(draw: st.DrawFn) -> Environment:
    """The reference values of any release."""
    components = draw(st.lists(st.tuples(NAMES, DIGESTS), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
    files = draw(st.dictionaries(PATHS, st.tuples(DIGESTS, DIGESTS), max_size=5))
    return Environment(
        channel=draw(CHANNELS),
        number=draw(st.integers(1, 10**6)),
        components=tuple(ReferenceValue(component=name, fsverity=digest) for name, digest in components),
        registers=tuple(draw(st.lists(registers(), max_size=4, unique=True))),
        boot=tuple(draw(st.dictionaries(BOOT, DIGESTS, max_size=6)).items()),
        files=tuple(ImageFile(path=path, sha256=a, fsverity=b) for path, (a, b) in sorted(files.items())),
    )


SMALL = Environment(
    channel="platform",
    number=7,
    components=(
        ReferenceValue(component="repository", fsverity="aa" * 32),
        ReferenceValue(component="vmm/firmware-code", fsverity="bb" * 32),
    ),
    registers=(
        Registers(entry="fresh", predecessor=0, pcrs=((11, "cc" * 32), (13, "dd" * 32))),
        Registers(entry="switch", predecessor=6, pcrs=((13, "ee" * 32),)),
        Registers(entry="firmware", predecessor=0, pcrs=((0, "ff" * 32),)),
    ),
    boot=(("application", "01" * 32), ("section/.linux", "02" * 32)),
    files=(ImageFile(path="/usr/bin/qemu", sha256="03" * 32, fsverity="04" * 32),),
)


class CorimKey:
    """A key that signs reference values."""

    def __init__(self, curve: ec.EllipticCurve | None = None, seed: int = 20261126) -> None:
        key = ec.derive_private_key(seed, curve or ec.SECP256R1())
        self._key = key
        self.private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def signed(self, protected: bytes, payload: bytes, unprotected: dict[int, Any] | None = None) -> bytes:
        """COSE_Sign1 by a P-256 key over any header, put together here."""
        message = cbor(["Signature1", protected, b"", payload])
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return tag(18, cbor([protected, unprotected or {}, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big")]))


def head(major: int, number: int) -> bytes:
    """RFC 8949, 3: a major type and its argument, as short as it can be."""
    if number < 24:
        return bytes([major << 5 | number])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise ValueError("an argument has at most eight bytes")


def tag(number: int, content: bytes) -> bytes:
    """A tag around encoded content."""
    return head(6, number) + content


def cbor(value: Any) -> bytes:
    """An encoding written here; members keep their order, bytes that are encoded already come as ``memoryview``."""
    match value:
        case memoryview():
            return bytes(value)
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())
    raise TypeError(type(value).__name__)
