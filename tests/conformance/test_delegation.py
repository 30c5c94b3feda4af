# SPDX-License-Identifier: Apache-2.0
"""Delegations and metadata that no repository of ours has: the client must still do what the specification says.

These are shapes that clients are known to get wrong (TUF specification 1.0.34, sections 5.5 and 5.6). The public suite
has many more; ``make conformance`` runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Targets

from lab.forge import Forge
from lab.hostile import body, served
from lab.tuf_client import TufClient
from updater.repository.serve import _Handler

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
PAST = SOON - timedelta(days=3)


@pytest.fixture
def forge(run: TufClient, tmp_path: Path) -> Iterator[Forge]:
    """The repository that the client asks, to be signed by hand."""
    forge = Forge(run.publisher, tmp_path / "forged")

    def any_file(handler: _Handler) -> None:
        """Our own server answers only names that a repository of ours has."""
        path = forge.repository / handler.path.removeprefix("/")
        body(*((path.read_bytes(),) if path.is_file() else (b"", 404)))(handler)

    with served(forge.repository) as run.server:
        run.server.every = any_file
        assert run.init() == 0
        yield forge


def _appoint(by: Targets, name: str, *paths: str, terminating: bool = False) -> CryptoSigner:
    """Delegate paths to a role with a key of its own, before all other delegations."""
    by.delegations = by.delegations or Delegations({}, {})
    assert by.delegations.roles is not None
    role = DelegatedRole(name, [], 1, terminating=terminating, paths=list(paths))
    by.delegations.roles = {name: role, **by.delegations.roles}
    signer = CryptoSigner.generate_ecdsa()
    by.add_key(signer.public_key, name)
    return signer


def _targets(forge: Forge) -> Targets:
    targets = forge.newest("targets")
    assert isinstance(targets, Targets)
    return targets


def _list(forge: Forge, name: str, signed: Targets, signer: CryptoSigner) -> None:
    forge.put(name, signed, [signer])
    forge.list(forge.as_it_was(name, signed.version))


def test_a_role_that_two_appoint_is_judged_anew_for_each(run: TufClient, forge: Forge) -> None:
    """A diamond: what ``shared`` signs counts on the way over ``left``, and must not be remembered for ``right``."""
    targets = _targets(forge)
    keys = {side: _appoint(targets, side, f"{side}/*") for side in ("left", "right")}
    sides = {side: Targets(expires=SOON) for side in keys}
    shared = {side: _appoint(signed, "shared", f"{side}/*") for side, signed in sides.items()}
    for side, signed in sides.items():
        _list(forge, side, signed, keys[side])
    forge.retarget("targets", targets, forge.signers("targets"))
    _list(forge, "shared", Targets(expires=SOON), shared["left"])
    for side in sides:
        forge.release("shared", f"{side}/file", f"for {side}".encode(), [shared["left"]])
    assert run.download("left/file", "right/file") == 1
    assert run.downloaded() == {b"for left"}
    assert run.download("right/file") == 1
    # Signed by both keys it holds on both ways.
    forge.retarget("shared", _newest(forge, "shared"), list(shared.values()))
    assert run.download("left/file", "right/file") == 0
    assert run.downloaded() == {b"for left", b"for right"}


def _newest(forge: Forge, role: str) -> Targets:
    signed = forge.newest(role)
    assert isinstance(signed, Targets)
    return signed


def test_a_role_in_a_circle_is_asked_once(run: TufClient, forge: Forge) -> None:
    targets = _targets(forge)
    first = _appoint(targets, "first", "*/file")
    one, two = Targets(expires=SOON), Targets(expires=SOON)
    second = _appoint(one, "second", "*/file")
    assert two.delegations is None
    two.delegations = Delegations({}, {})
    two.delegations.roles = {"first": DelegatedRole("first", [], 1, terminating=False, paths=["*/file"])}
    two.add_key(first.public_key, "first")
    _list(forge, "first", one, first)
    _list(forge, "second", two, second)
    forge.retarget("targets", targets, forge.signers("targets"))
    assert run.download("some/file") == 1
    assert [name for name in run.asked() if "first" in name or "second" in name] == [
        "metadata/1.first.json", "metadata/1.second.json",
    ]  # fmt: skip


def test_a_terminating_role_ends_the_search(run: TufClient, forge: Forge) -> None:
    targets = _targets(forge)
    late = _appoint(targets, "late", "some/*")
    early = _appoint(targets, "early", "some/*", terminating=True)
    _list(forge, "early", Targets(expires=SOON), early)
    _list(forge, "late", Targets(expires=SOON), late)
    forge.release("late", "some/file", b"found too late", [late])
    forge.retarget("targets", targets, forge.signers("targets"))
    assert run.download("some/file") == 1
    assert not [name for name in run.asked() if "late" in name]


@pytest.mark.parametrize("name", ["?", "#", "/role", "../role", "%2e%2e", "Ünïcode role"])
def test_the_name_of_a_role_is_never_a_path(run: TufClient, forge: Forge, tmp_path: Path, name: str) -> None:
    targets = _targets(forge)
    signer = _appoint(targets, name, "some/*")
    _list(forge, name, Targets(expires=SOON), signer)
    forge.retarget("targets", targets, forge.signers("targets"))
    forge.release(name, "some/file", b"found", [signer])
    outside = {path for path in tmp_path.rglob("*") if run.metadata not in path.parents}
    assert run.download("some/file") == 0
    assert run.downloaded() == {b"found"}
    new = {path for path in tmp_path.rglob("*") if run.metadata not in path.parents} - outside
    assert [path.parent for path in new] == [run.targets]
    assert len(list(run.metadata.glob("*.json"))) == 5


def test_a_role_that_no_snapshot_lists_is_not_asked(run: TufClient, forge: Forge) -> None:
    targets = _targets(forge)
    signer = _appoint(targets, "hidden", "some/*")
    forge.put("hidden", Targets(expires=SOON), [signer])
    forge.retarget("targets", targets, forge.signers("targets"))
    assert run.download("some/file") == 1
    assert not [name for name in run.asked() if "hidden" in name]


def test_a_role_that_expired_offers_nothing(run: TufClient, forge: Forge) -> None:
    targets = _targets(forge)
    signer = _appoint(targets, "old", "some/*")
    _list(forge, "old", Targets(expires=SOON), signer)
    forge.retarget("targets", targets, forge.signers("targets"))
    forge.release("old", "some/file", b"content", [signer])
    expired = _newest(forge, "old")
    expired.version += 1
    expired.expires = PAST
    _list(forge, "old", expired, signer)
    assert run.refresh() == 0
    assert run.download("some/file") == 1
    assert run.downloaded() == set()
    assert not (run.metadata / "old.json").exists()


def test_other_metadata_than_the_listed_one_is_refused(run: TufClient, forge: Forge) -> None:
    """The signature is right and the version too: only length and digest tell."""
    assert run.refresh() == 0
    snapshot, timestamp = forge.newest("snapshot"), forge.newest("timestamp")
    forge.list()
    for role in ("snapshot", "timestamp"):
        kept = (run.metadata / f"{role}.json").read_bytes()
        assert json.loads(kept)["signed"]["version"] == (snapshot if role == "snapshot" else timestamp).version
    path = forge.repository / f"metadata/{snapshot.version + 1}.snapshot.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert run.refresh() == 1
    kept = json.loads((run.metadata / "snapshot.json").read_bytes())
    assert kept["signed"]["version"] == snapshot.version
    # The new timestamp was good and is kept: it is what the next lookup may not fall below.
    kept = json.loads((run.metadata / "timestamp.json").read_bytes())
    assert kept["signed"]["version"] == timestamp.version + 1
    path.write_bytes(path.read_bytes()[:-1])
    assert run.refresh() == 0


def test_metadata_is_kept_byte_for_byte(run: TufClient, forge: Forge) -> None:
    path = forge.repository / "metadata/timestamp.json"
    path.write_bytes(b"\n " + path.read_bytes() + b"\n\n")
    assert run.refresh() == 0
    assert (run.metadata / "timestamp.json").read_bytes() == path.read_bytes()


def test_a_target_that_changes_replaces_the_old_file(run: TufClient, forge: Forge) -> None:
    signers = forge.signers("releases-platform")
    name = "releases/platform/note"
    for content in (b"first", b"second"):
        forge.release("releases-platform", name, content, signers)
        assert run.download(name) == 0
        assert run.downloaded() == {content}
    # The same name with other bytes than the signed ones: the good file stays.
    forge.release("releases-platform", name, b"third", signers)
    (file,) = [path for path in forge.repository.rglob("*.note") if path.read_bytes() == b"third"]
    file.write_bytes(b"thirD")
    assert run.download(name) == 1
    assert run.downloaded() == {b"second"}


def test_a_list_without_digests_is_enough(run: TufClient, forge: Forge) -> None:
    """Lengths and digests of metadata are optional: then the version and the signature decide."""
    targets = _targets(forge)
    signer = _appoint(targets, "plain", "some/*")
    forge.put("plain", Targets(expires=SOON), [signer])
    forge.retarget("targets", targets, forge.signers("targets"))
    forge.list({"plain": MetaFile(1)})
    assert run.download("some/file") == 1
    assert (run.metadata / "plain.json").exists()


@pytest.mark.parametrize(
    ("make", "keytype"),
    [
        (CryptoSigner.generate_ecdsa, "ecdsa"),
        (CryptoSigner.generate_ecdsa, "ecdsa-sha2-nistp256"),
        (CryptoSigner.generate_ed25519, "ed25519"),
        (CryptoSigner.generate_rsa, "rsa"),
    ],
    ids=["ecdsa", "ecdsa as it was written before 2023", "ed25519", "rsa"],
)
def test_keys_of_all_kinds_are_understood(
    run: TufClient, forge: Forge, make: Callable[[], CryptoSigner], keytype: str
) -> None:
    """Our own roles have ECDSA keys only; the formats of other repositories, old ones too, are read all the same."""
    signer = make()
    signer.public_key.keytype = keytype
    targets = _targets(forge)
    _appoint(targets, "other", "some/*")
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles["other"].keyids.clear()
    targets.add_key(signer.public_key, "other")
    _list(forge, "other", Targets(expires=SOON), signer)
    forge.retarget("targets", targets, forge.signers("targets"))
    forge.release("other", "some/file", b"found", [signer])
    assert run.download("some/file") == 0
    assert run.downloaded() == {b"found"}
    # And a signature of the right form by another key is none.
    forge.release("other", "some/file", b"forged", [_by(make(), signer)])
    assert run.download("some/file") == 1
    assert run.downloaded() == {b"found"}


def _by(other: CryptoSigner, named: CryptoSigner) -> CryptoSigner:
    """Signs with one key under the name of another."""
    other.public_key.keyid = named.public_key.keyid
    return other
