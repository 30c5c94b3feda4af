# SPDX-License-Identifier: Apache-2.0
"""The folder of a release: what lies in it, and the signed list of digests that binds it together.

It builds nothing. A key is a file of ``keys.files``: P-384, encrypted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from release.bom import bill_of_materials
from release.provenance import Built, envelope, statement
from release.resolved import Distribution, lock
from release.tag import swid_tag

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
NAME = "vmgate"


def sha256(path: Path) -> str:
    """A file's digest, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(folder: Path, distributions: tuple[Distribution, ...], version: str, source_time: int) -> None:
    """Put bill of materials, lock file and tag beside what was built."""
    made = datetime.fromtimestamp(source_time, UTC)
    built = {path.name: (path.stat().st_size, sha256(path)) for path in sorted(folder.iterdir())}
    stem = f"{NAME}-{version}"
    (folder / f"{stem}.cdx.json").write_bytes(bill_of_materials(distributions, NAME, made))
    (folder / f"{stem}.lock.txt").write_bytes(lock(distributions, NAME))
    (folder / f"{stem}.swidtag").write_bytes(swid_tag(version, built))


def seal(folder: Path, version: str, built: Built, key: ec.EllipticCurvePrivateKey) -> None:
    """Sign the provenance, list all that is there, and sign the list."""
    sign = signer(key)
    (folder / f"{NAME}-{version}.intoto.json").write_bytes(envelope(statement(built), sign))
    for stale in (SUMS, SIGNATURE):
        (folder / stale).unlink(missing_ok=True)
    listed = "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())).encode()
    (folder / SUMS).write_bytes(listed)
    (folder / SIGNATURE).write_bytes(sign(listed))


def signer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """Signs as ``openssl dgst -sha384 -sign`` does."""
    return lambda data: key.sign(data, ec.ECDSA(hashes.SHA384()))
