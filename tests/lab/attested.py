# SPDX-License-Identifier: Apache-2.0
"""A host with a long IMA list, as evidence: for whom it matters what judging one costs.

Boot log, own log and releases are those of the host that was captured in the rig (``tests/vectors/rig``). Its IMA list
is made as long as wanted, its host image as large, and the quote is signed here by a key of the test's own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from content.fsverity import digest_bytes
from documents.evidence import Evidence
from documents.host_image import HostImage, ImageFile
from documents.release import Release
from fleet.verifier import Expected
from lab import event_logs
from lab.boot_logs import extended, ima_file
from lab.paper_tpm import EccAk, RsaAk, attest
from measure import bootlog, cel
from measure.boot import pcr11
from measure.boot_files import AGENT_PROGRAM, LIBVIRT_PROGRAMS

VECTORS = Path(__file__).parents[1] / "vectors/rig"
NONCE = bytes(range(20))
TEMPLATE = b"ima-sig"


def vector(name: str) -> bytes:
    """One file of the captured host."""
    return (VECTORS / name).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """A host's evidence, and what it is compared with.

    Attributes:
        evidence: whole.
        expected: what a verifier knows.
        ak: its attestation key, TPMT_PUBLIC.
        image: the host image, parsed.
        entries: (name, SHA-256) of each entry of the IMA list.
        values: what the TPM holds: PCR 0 to 13 of the SHA-256 bank.
    """

    evidence: Evidence
    expected: Expected
    ak: bytes
    image: HostImage
    entries: tuple[tuple[str, bytes], ...]
    values: dict[int, bytes]


def attested(measured: int, files: int, key: EccAk | RsaAk) -> Attested:
    """A host whose kernel measured so many files of an image that has so many more.

    Args:
        measured: entries of the IMA list; none leaves the list out.
        files: of the host image.
        key: signs the quote.
    """
    captured = Evidence.parse(vector("evidence.json"))
    image = _image(files)
    values = {index: bytes(32) for index in range(14)}
    values |= bootlog.replay(bootlog.parse_boot_log(captured.boot_log))["sha256"]
    values |= cel.replay(cel.parse_log(captured.cel), "sha256")
    values[11] = bytes.fromhex(pcr11(image, image.phases[-1]))
    aggregate = hashlib.sha256(b"".join(values[index] for index in range(10))).digest()
    entries = (("boot_aggregate", aggregate), *_ran(image, measured - 1)) if measured else ()
    contents = [ima_file(name, digest, TEMPLATE) for name, digest in entries]
    for content in contents:
        values[10] = extended(values[10], hashlib.sha256(content).digest())
    quoted = attest(NONCE, {"sha256": values})
    evidence = replace(
        captured,
        attest=quoted,
        signature=key.sign(quoted),
        ak=key.public,
        ima=b"".join(event_logs.ima_binary(10, TEMPLATE, content) for content in contents),
    )
    release = Release.parse(vector("platform.json"))
    artifacts = tuple(
        replace(artifact, fsverity=digest_bytes(image.encode())) if artifact.kind == "host-image" else artifact
        for artifact in release.artifacts
    )
    expected = Expected(
        releases=(replace(release, artifacts=artifacts).encode(), vector("workload.json")),
        anchor=vector("root.json"),
        policy=vector("policy.json"),
        image=image.encode(),
    )
    return Attested(evidence=evidence, expected=expected, ak=key.public, image=image, entries=entries, values=values)


def _image(files: int) -> HostImage:
    """The captured host's image, with more files."""
    captured = HostImage.parse(vector("host-image.json"))
    more = []
    for number in range(files - len(captured.files)):
        content = str(number).encode()
        path = f"/usr/lib/x86_64-linux-gnu/package{number % 997}/lib{number}.so.1"
        more.append(ImageFile(path=path, fsverity=digest_bytes(content), sha256=hashlib.sha256(content).hexdigest()))
    return replace(captured, files=tuple(sorted((*captured.files, *more), key=lambda file: file.path)))


def _ran(image: HostImage, count: int) -> tuple[tuple[str, bytes], ...]:
    """Entries of so many files; the agent's program comes before libvirt's."""
    known = {file.path: bytes.fromhex(file.sha256) for file in image.files}
    first = [path for path in (AGENT_PROGRAM, *LIBVIRT_PROGRAMS) if path in known]
    rest = [path for path in known if path not in first]
    # Spread over the whole image, as what a boot touches is.
    step = max(1, len(rest) // max(1, count - len(first)))
    chosen = [*first, *rest[::step]][:count]
    return tuple((path, known[path]) for path in chosen)
