# SPDX-License-Identifier: Apache-2.0
"""A small publisher: real keys, a real repository, releases with a few bytes in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from content.fsverity import digest_bytes
from documents.release import Artifact, PolicyKey, ReferenceValue, Release, SignedPolicy
from keys.policy_signer import open_policy_signers
from keys.unlock import Secret
from updater.repository.create import create
from updater.repository.periods import PERIODS, Periods
from updater.repository.release import publish

PASSPHRASE = b"only for tests"
NOW = 1_795_000_000
"""When the tests' repositories are made: in November 2026."""
DAY = 86_400


def platform(number: int, *artifacts: Artifact, **changes: object) -> Release:
    """A platform release. What it measures to is made up: the updater does not read it."""
    release = Release(
        channel="platform",
        authority="platform",
        number=number,
        epoch=1,
        minimum_agent="0.1.0",
        import_days=90,
        accepts=(0, 0),
        artifacts=artifacts,
        reference=(ReferenceValue(component="repository", fsverity="0" * 64),),
        policy_keys=(PolicyKey(x="1" * 64, y="2" * 64),),
        policies=(SignedPolicy(entry="fresh", predecessor=0, epoch=1, pcrs=((13, "3" * 64),), signature=b"\x04" * 64),),
        refused=(),
    )
    return replace(release, **changes)  # type: ignore[arg-type]


def workload(number: int, *artifacts: Artifact, **changes: object) -> Release:
    """A workload release that runs on any platform release."""
    release = replace(
        platform(number, *artifacts),
        channel="desktop",
        authority="workload",
        accepts=(1, 1000),
        reference=(),
        policy_keys=(),
        policies=(),
    )
    return replace(release, **changes)  # type: ignore[arg-type]


class Publisher:
    """A repository with the channels ``platform`` and ``desktop``, below one folder.

    Attributes:
        repository: the static files.
        keys: the key files.
        anchor: bytes of the first root.
        now: the time at which it acts; tests move it.
        policy_keys: the public half of the TPM policy key that it made.
        secret: opens its keys when it publishes; tests exchange it.
    """

    def __init__(self, folder: Path, *, now: int = NOW, periods: Periods = PERIODS) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.keys = folder / "keys"
        self.now = now
        self.periods = periods
        self.secret: Secret = PASSPHRASE
        self.anchor = create(self.repository, self.keys, PASSPHRASE, ("platform", "desktop"), now=now, periods=periods)
        self.policy_keys = tuple(signer.public() for signer in open_policy_signers(self.keys, PASSPHRASE))

    def artifact(self, name: str, kind: str, data: bytes) -> tuple[Artifact, Path]:
        """An artifact and a file with its bytes."""
        digest = digest_bytes(data)
        path = self.folder / f"artifact-{digest[:16]}"
        path.write_bytes(data)
        return Artifact(name=name, kind=kind, fsverity=digest, length=len(data)), path

    def publish(self, release: Release, *paths: Path) -> bytes:
        """Publish a release; returns its bytes."""
        data = release.encode()
        publish(self.repository, self.keys, self.secret, data, paths, now=self.now, periods=self.periods)
        return data

    def publish_platform(self, number: int, data: bytes = b"", **changes: object) -> bytes:
        """Publish a platform release with one artifact."""
        artifact, path = self.artifact("vmm/host-files", "host-files", data or b"host files of release %d" % number)
        return self.publish(platform(number, artifact, **{"policy_keys": self.policy_keys, **changes}), path)

    def publish_workload(self, number: int, data: bytes = b"", **changes: object) -> bytes:
        """Publish a workload release with one artifact."""
        artifact, path = self.artifact("image/desktop", "image", data or b"image of release %d" % number)
        return self.publish(workload(number, artifact, **changes), path)
