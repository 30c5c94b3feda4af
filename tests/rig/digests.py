# SPDX-License-Identifier: Apache-2.0
"""What vmgate's own code says about files of the rig; runs inside it, by vmgate's interpreter.

``Digester`` measures as the gate does. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from content.digest_memory import DigestMemory
from content.effects import enable_verity
from content.errors import StorageFailed
from content.fsverity import digest_bytes
from content.measuring import Digester
from content.store import ContentStore
from content.verity_ioctl import kernel_digest

QEMU = Path("/usr/bin/qemu-system-x86_64")


def told(path: Path, memory: DigestMemory | None = None) -> list[str]:
    """Digest, what keeps it, and where it comes from."""
    taken = Digester(memory).measure(path)
    return [taken.fsverity, taken.kept, taken.taken]


def refused(path: Path, flags: int) -> str:
    """Why a file cannot be opened."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return str(error.strerror)
    return ""


def plain(folder: Path, name: str, data: bytes) -> Path:
    """A file without fs-verity."""
    path = folder / name
    path.write_bytes(data)
    return path


def kernel(path: Path, length: int, algorithm: int) -> str | None:
    """The kernel's word on a file."""
    with path.open("rb") as file:
        return kernel_digest(file.fileno(), length, algorithm)


def go_bad(path: Path) -> None:
    """Change a byte of a file on the disk, below the file system, and forget what was read of it."""
    said = subprocess.run(["filefrag", "-v", "-b4096", path], check=True, capture_output=True, text=True).stdout
    block = next(int(line.split()[3].rstrip(".:")) for line in said.splitlines() if line.split()[:1] == ["0:"])
    command = ["findmnt", "-no", "SOURCE", "--target", path]
    source = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    os.sync()
    with Path(source.partition("[")[0].strip()).open("r+b", buffering=0) as disk:
        disk.seek(block * 4096 + 17)
        disk.write(b"X")
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def main(root: Path) -> None:
    """Install, measure, and try to change."""
    data = os.urandom(3_000_000)
    store = ContentStore(root / "store")
    measured = store.add_bytes(data)
    sealed = store.path(measured.fsverity)
    found: dict[str, object] = {"digest": digest_bytes(data), "sealed": told(sealed)}
    found["opened for writing"] = refused(sealed, os.O_RDWR)
    store.seal(measured.fsverity)
    found["sealed again"] = told(store.path(store.add_bytes(data).fsverity))
    found["empty"] = [digest_bytes(b""), told(store.path(store.add_bytes(b"").fsverity))[0]]

    salted = plain(root, "salted", data)
    subprocess.run(["fsverity", "enable", "--salt=beef", salted], check=True)
    found["salted"] = told(salted)
    larger = plain(root, "sha512", data)
    subprocess.run(["fsverity", "enable", "--hash-alg=sha512", larger], check=True)
    said = subprocess.run(["fsverity", "measure", larger], check=True, capture_output=True, text=True).stdout
    found["sha512"] = said.split()[0] == f"sha512:{kernel(larger, len(data), 2)}"
    found["sha512 as sha256"] = told(larger)

    # What root may do to the file's inode does not matter: the name leads to another file, and so to another digest.
    moved = sealed.with_name("moved")
    sealed.rename(moved)
    plain(sealed.parent, sealed.name, b"another")
    found["exchanged"] = told(sealed)[0]
    moved.rename(sealed)
    damaged = plain(root, "damaged", data)
    with damaged.open("r+b") as file, damaged.open("rb") as reader:
        try:
            enable_verity(reader.fileno())
        except OSError as error:
            found["while somebody writes"] = error.strerror
        file.write(b"x")

    memory = DigestMemory(clock=lambda: 2**62)
    found["memory"] = [told(plain(root, "plain", data), memory), told(root / "plain", memory)]
    found["qemu"] = told(QEMU)
    plain(Path("/tmp"), "anybodys", data)
    found["anybodys"] = told(Path("/tmp/anybodys"))
    try:
        told(Path("/dev/null"))
    except StorageFailed:
        found["device"] = "refused"
    go_bad(sealed)
    found["gone bad"] = told(sealed)[1:]
    try:
        store.verify(measured.fsverity, measured.length)
    except StorageFailed as error:
        found["read"] = error.cause
    found["repaired"] = told(store.path(store.add_bytes(data).fsverity))
    store.verify(measured.fsverity, measured.length)
    store.gc(set())
    found["left"] = [item.fsverity for item in store.items()]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
