# SPDX-License-Identifier: Apache-2.0
"""A copy of a repository, signed by hand: what thieves of some keys can make of it, and how its publisher recovers.

Nothing here keeps to the order or the rules of ``updater.repository``, but for the names of files.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from keys.signers import open_role
from lab.publishing import PASSPHRASE, Publisher
from updater.formats import METADATA, metadata_name, release_target, target_name
from updater.repository.chain import sign
from updater.repository.periods import PERIODS

ONLINE = ("snapshot", "timestamp")


class Forge:
    """A copy of a publisher's repository as it is now, and its keys.

    Attributes:
        repository: the copy.
        now: when its metadata is signed; tests move it.
        online: who signs snapshot and timestamp.
    """

    def __init__(self, publisher: Publisher, folder: Path) -> None:
        self.repository = folder
        self.now = publisher.now
        self._keys = publisher.keys
        shutil.copytree(publisher.repository, folder)
        self.online = {role: self.signers(role) for role in ONLINE}

    def signers(self, role: str) -> list[CryptoSigner]:
        """As many of a role's signers as must sign."""
        return open_role(role, self._keys, PASSPHRASE)

    def newest(self, role: str) -> Signed:
        """What a role said last."""
        if role == Timestamp.type:
            return Metadata[Timestamp].from_file(str(self.repository / metadata_name(role, None))).signed
        return self.version(role, max(self._versions(role)))

    def version(self, role: str, version: int) -> Signed:
        """What a role said in a version."""
        return Metadata[Targets].from_file(str(self.repository / metadata_name(role, version))).signed

    def put(self, role: str, signed: Signed, signers: Sequence[CryptoSigner]) -> bytes:
        """Sign and write metadata; returns its bytes."""
        data = sign(Metadata(signed), signers)
        name = metadata_name(role, None if role == Timestamp.type else signed.version)
        (self.repository / name).write_bytes(data)
        return data

    def list(self, listed: Mapping[str, MetaFile] | None = None, *, drop: Collection[str] = (), jump: int = 1) -> None:
        """A new snapshot, and a timestamp for it, signed by ``online``.

        Args:
            listed: what changes in the list, by role.
            drop: roles that are listed no longer.
            jump: how far both versions rise.
        """
        snapshot, timestamp = self.newest(Snapshot.type), self.newest(Timestamp.type)
        assert isinstance(snapshot, Snapshot)
        assert isinstance(timestamp, Timestamp)
        snapshot.meta.update({f"{role}.json": meta for role, meta in (listed or {}).items()})
        for role in drop:
            del snapshot.meta[f"{role}.json"]
        self._renew(snapshot, jump, PERIODS.snapshot)
        data = self.put(Snapshot.type, snapshot, self.online[Snapshot.type])
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        self._renew(timestamp, jump, PERIODS.timestamp)
        self.put(Timestamp.type, timestamp, self.online[Timestamp.type])

    def as_it_was(self, role: str, version: int) -> dict[str, MetaFile]:
        """How a snapshot lists an old version of a role."""
        data = (self.repository / metadata_name(role, version)).read_bytes()
        return {role: MetaFile.from_data(version, data, ["sha256"])}

    def release(self, role: str, path: str, data: bytes, signers: Sequence[CryptoSigner]) -> None:
        """Offer a document as a target of a role, the newest of all, signed by whomever; and list it."""
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = {"published": self.now}
        name = self.repository / target_name(path, target.hashes["sha256"])
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data)
        signed = self.newest(role)
        assert isinstance(signed, Targets)
        signed.targets[path] = target
        self.retarget(role, signed, signers)

    def retarget(self, role: str, signed: Targets, signers: Sequence[CryptoSigner]) -> None:
        """A new version of a targets role, signed by whomever; and list it."""
        self._renew(signed, 1, PERIODS.releases)
        self.put(role, signed, signers)
        self.list(self.as_it_was(role, signed.version))

    def new_root(self, online: Mapping[str, CryptoSigner], signers: Sequence[CryptoSigner]) -> None:
        """A root with other online keys, by whomever it is signed."""
        root = self.newest(Root.type)
        assert isinstance(root, Root)
        for role, signer in online.items():
            for keyid in tuple(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(signer.public_key, role)
        self._renew(root, 1, PERIODS.root)
        self.put(Root.type, root, signers)

    def current(self, channel: str) -> Path:
        """The file that holds a channel's newest release."""
        signed = self.newest(f"releases-{channel}")
        assert isinstance(signed, Targets)
        target = signed.targets[release_target(channel, None)]
        return self.repository / target_name(target.path, target.hashes["sha256"])

    def _renew(self, signed: Signed, jump: int, period: int) -> None:
        signed.version += jump
        signed.expires = datetime.fromtimestamp(self.now + period, UTC)

    def _versions(self, role: str) -> list[int]:
        return [
            int(path.name.partition(".")[0]) for path in (self.repository / METADATA).glob(f"*.{quote(role, '')}.json")
        ]
