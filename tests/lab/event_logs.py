# SPDX-License-Identifier: Apache-2.0
"""Writers of event logs, field by field, so that tests need no captured file. They share no code with the readers."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

ALG_ID = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
SIZE = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
NO_ACTION = 3
SEPARATOR = 4
S_CRTM_VERSION = 8
HCRTM = 0x80000010


def sha1_event(pcr: int, kind: int, digest: bytes, data: bytes) -> bytes:
    """TCG_PCR_EVENT."""
    return struct.pack("<II20sI", pcr, kind, digest, len(data)) + data


def event2(pcr: int, kind: int, digests: Mapping[str, bytes], data: bytes) -> bytes:
    """TCG_PCR_EVENT2."""
    written = b"".join(struct.pack("<H", ALG_ID[alg]) + digest for alg, digest in digests.items())
    return struct.pack("<III", pcr, kind, len(digests)) + written + struct.pack("<I", len(data)) + data


def measured(pcr: int, kind: int, data: bytes, banks: Sequence[str]) -> bytes:
    """An event whose digests are of its data."""
    return event2(pcr, kind, {alg: hashlib.new(alg, data).digest() for alg in banks}, data)


def spec_id(banks: Sequence[str], *, vendor: bytes = b"") -> bytes:
    """The data of the first event of a crypto-agile log."""
    return spec_id_of([(ALG_ID[alg], SIZE[alg]) for alg in banks], vendor=vendor)


def spec_id_of(algorithms: Sequence[tuple[int, int]], *, vendor: bytes = b"") -> bytes:
    """The same, of any algorithm identifiers and digest sizes."""
    listed = b"".join(struct.pack("<HH", *algorithm) for algorithm in algorithms)
    head = struct.pack("<16sIBBBBI", b"Spec ID Event03", 0, 0, 2, 0, 2, len(algorithms))
    return head + listed + bytes([len(vendor)]) + vendor


def header(banks: Sequence[str], *, vendor: bytes = b"") -> bytes:
    """The first event of a crypto-agile log."""
    return sha1_event(0, NO_ACTION, bytes(20), spec_id(banks, vendor=vendor))


def startup_locality(locality: int) -> bytes:
    """The data of the event that tells where PCR 0 starts."""
    return b"StartupLocality\0" + bytes([locality])


MANIFEST_GUID = "00112233-4455-6677-8899-aabbccddeeff"


def manifest(number: int = 3, texts: Sequence[bytes] = (b"Maker", b"Model", b"1", b"Maker", b"2.0")) -> bytes:
    """The data of an SP 800-155 event of that number; the first kind has no texts."""
    signature = f"SP800-155 Event{number if number > 1 else ''}".encode().ljust(16, b"\0")
    head = signature + struct.pack("<I", 11129) + uuid.UUID(MANIFEST_GUID).bytes_le
    if number == 1:
        return head
    sized = [bytes([len(text) + 1]) + text + b"\0" for text in texts]
    body = b"".join(sized[:4]) + struct.pack("<I", 11129) + sized[4]
    return head + body + (struct.pack("<II3sII", 1, 3, b"uri", 0, 0) if number == 3 else b"")


def ima_data(*fields: bytes) -> bytes:
    """Template data of every IMA template but the first."""
    return b"".join(struct.pack("<I", len(field)) + field for field in fields)


def ima_binary(pcr: int, template: bytes, data: bytes, *, alg: str = "sha1", digest: bytes | None = None) -> bytes:
    """An entry of a binary IMA list."""
    digest = hashlib.new(alg, data).digest() if digest is None else digest
    return struct.pack("<I", pcr) + digest + struct.pack("<I", len(template)) + template + ima_data(data)


def ima_ascii(
    pcr: int, template: bytes, data: bytes, *fields: bytes, alg: str = "sha1", digest: bytes | None = None
) -> bytes:
    """A line of an ASCII IMA list."""
    digest = hashlib.new(alg, data).digest() if digest is None else digest
    return b" ".join([b"%2d" % pcr, digest.hex().encode(), template, *fields]) + b"\n"


def systemd_record(
    pcr: int | None, text: str, banks: Sequence[str] = ("sha256",), *, measured: bytes | None = None, **more: Any
) -> bytes:
    """A record of systemd's log, as its tpm2-util.c writes one; ``measured`` is what the digests are of."""
    content = text.encode() if measured is None else measured
    register = {"nv_index": 0x01D10200} if pcr is None else {"pcr": pcr}
    record: dict[str, Any] = {
        **register,
        "digests": [{"hashAlg": alg, "digest": hashlib.new(alg, content).hexdigest()} for alg in banks],
        "content_type": "systemd",
        "content": {"string": text, "bootId": "0" * 32, "timestamp": 17_000_000, "eventType": "phase"},
    }
    return b"\x1e" + json.dumps({**record, **more}, separators=(",", ":")).encode() + b"\n"
