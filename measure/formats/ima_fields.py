# SPDX-License-Identifier: Apache-2.0
"""The fields of IMA templates: their names, and how a printed field is turned back into the bytes that were hashed.

Source: the kernel's Documentation/security/IMA-templates.rst and security/integrity/ima (ima_template.c,
ima_template_lib.c, ima_crypto.c). This module does not read lists, check digests or say what an entry means.
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

ORIGINAL: Final = "ima"
"""The first template: two fields of fixed size, and a form of its own in binary lists."""

ORIGINAL_DIGEST: Final = 20
ORIGINAL_NAME: Final = 256
"""Bytes of its fields: what it hashes is a digest of SHA-1 and a name that is padded with zeros."""

LONGEST_TEMPLATE: Final = 128
"""Bytes of a template's name."""

_TEMPLATES_KEPT: Final = 32  # a list uses two or three, 100,000 times
_TEMPLATE: Final = re.compile(rb"[a-z0-9][a-z0-9|_-]*")
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_length: Final = struct.Struct("<I").pack

unhex: Final = binascii.unhexlify
"""Bytes that were printed in hexadecimal; it raises ``NotHexadecimal`` where they were not."""

NotHexadecimal: Final = binascii.Error
"""A ValueError."""


@lru_cache(maxsize=_TEMPLATES_KEPT)
def template_name(untrusted_name: bytes) -> str:
    """The name of a template.

    Raises:
        ValueError: it is too long, or has characters that no template has.
    """
    if len(untrusted_name) > LONGEST_TEMPLATE or not _TEMPLATE.fullmatch(untrusted_name):
        raise ValueError("the template's name is malformed")
    return untrusted_name.decode("ascii")


@lru_cache(maxsize=_TEMPLATES_KEPT)
def field_names(template: str) -> tuple[str, ...]:
    """The fields of a template, in order. A name that is not one of the kernel's own is its fields, joined by ``|``."""
    return tuple(TEMPLATES.get(template, template).split("|"))


def template_data(template: str, fields: list[bytes]) -> bytes:
    """The bytes that the kernel hashed, from what it printed.

    Raises:
        ValueError: other fields than the template has, or one that is not in its form.
    """
    encoders = _encoders(template)
    if len(encoders) != len(fields):
        raise ValueError(f"it has {len(fields)} fields and its template {len(encoders)}")
    if template == ORIGINAL:
        return original(unhex(fields[0]), fields[1])
    data = b""
    for encode, field in zip(encoders, fields):  # noqa: B905 as many were just counted, a million times a minute
        value = encode(field)
        data += _length(len(value)) + value
    return data


def original(file_digest: bytes, name: bytes) -> bytes:
    """What the first template hashes: no lengths, and the name padded to a fixed size.

    Raises:
        ValueError: a field has not its size.
    """
    if len(file_digest) != ORIGINAL_DIGEST or len(name) >= ORIGINAL_NAME:
        raise ValueError("a field is too long or too short")
    return file_digest + name.ljust(ORIGINAL_NAME, b"\0")


def number(text: bytes) -> int:
    """A number that was printed in decimal.

    Raises:
        ValueError: it is none of at most ten digits.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("a field is not a number")
    return int(text)


@lru_cache(maxsize=_TEMPLATES_KEPT)
def _encoders(template: str) -> tuple[Callable[[bytes], bytes], ...]:
    names = field_names(template)
    if not _FIELDS.keys() >= set(names):
        raise ValueError("its template has fields that are not known")
    return tuple(_FIELDS[name] for name in names)


def _named_digest(text: bytes) -> bytes:
    """``sha256:...`` or ``verity:sha256:...``; empty where the file has no such digest."""
    if not text:
        return b""
    name, colon, digest = text.rpartition(b":")
    if not colon:
        raise ValueError("a digest does not name its hash")
    return name + b":\0" + unhex(digest)


def _text(text: bytes) -> bytes:
    return text + b"\0"


def _text_or_nothing(text: bytes) -> bytes:
    return text and text + b"\0"


def _unsigned(size: int) -> Callable[[bytes], bytes]:
    def encode(text: bytes) -> bytes:
        value = number(text) if text else None
        if value is not None and value >= 1 << 8 * size:
            raise ValueError("a number is too large")
        return b"" if value is None else value.to_bytes(size, "little")

    return encode


TEMPLATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ORIGINAL: "d|n",
        "ima-ng": "d-ng|n-ng",
        "ima-ngv2": "d-ngv2|n-ng",
        "ima-sig": "d-ng|n-ng|sig",
        "ima-sigv2": "d-ngv2|n-ng|sig",
        "ima-buf": "d-ng|n-ng|buf",
        "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
        "evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
    }
)
"""The kernel's own templates; any other name is its fields, joined in the same way."""

_FIELDS: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        "d": unhex,
        "n": _text,
        "d-ng": _named_digest,
        "d-ngv2": _named_digest,
        "n-ng": _text,
        "sig": unhex,
        "buf": unhex,
        "d-modsig": _named_digest,
        "modsig": unhex,
        "evmsig": unhex,
        "xattrnames": _text_or_nothing,
        "xattrlengths": unhex,
        "xattrvalues": unhex,
        "iuid": _unsigned(4),
        "igid": _unsigned(4),
        "imode": _unsigned(2),
    }
)
"""How a printed field is turned back into the bytes that were hashed."""
