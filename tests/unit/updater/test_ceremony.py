# SPDX-License-Identifier: Apache-2.0
"""Signing over several machines: the publisher's has only the online keys, the others have no repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, SuccinctRoles, Targets

from documents.errors import DocumentError, VmgateError
from documents.signing_request import SigningRequest
from keys.errors import PassphraseWrong
from keys.files import create_key
from keys.roles import P384
from keys.signers import open_key
from lab.documents import damaged
from lab.publishing import DAY, NOW, PASSPHRASE, Publisher, platform
from publisher.custody import Rotation, new_key, renew_role, rotate_role
from updater.errors import UpdaterError
from updater.formats import LIMITS
from updater.repository import change
from updater.repository.ceremony import merge, propose_release, read_request, sign_request
from updater.repository.chain import load_chain
from updater.repository.errors import (
    NoSuchRole,
    ReleaseRefused,
    RequestMalformed,
    RequestStale,
    RotationRefused,
    SignersMissing,
)
from updater.repository.refresh import refresh
from updater.repository.verify import verify_repository

ONLINE = ("snapshot-1", "timestamp-1")


class Ceremony:
    """A publisher whose offline keys lie on machines of their own, each a folder named by its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder)
        self.publisher.publish_platform(1)
        for path in self.publisher.keys.iterdir():
            if path.stem not in ONLINE:
                (folder / path.stem).mkdir()
                path.rename(folder / path.stem / path.name)

    @property
    def repository(self) -> Path:
        return self.publisher.repository

    def propose(self, **wanted: object) -> bytes:
        """A rotation that cannot be signed here."""
        rotation = Rotation(**wanted)  # type: ignore[arg-type]
        path = self.folder / "request"
        rotate_role(self.repository, self.publisher.keys, PASSPHRASE, rotation, now=self.publisher.now, request=path)
        return path.read_bytes()

    def renewal(self, role: str) -> bytes:
        path = self.folder / "request"
        renew_role(self.repository, self.publisher.keys, PASSPHRASE, role, now=self.publisher.now, request=path)
        return path.read_bytes()

    def release(self, number: int) -> bytes:
        artifact, path = self.publisher.artifact("vmm/host-files", "host-files", b"of release %d" % number)
        return propose_release(
            self.repository, self.publisher.keys, PASSPHRASE, platform(number, artifact).encode(), [path], now=NOW
        )

    def sign(self, request: bytes, machine: str) -> bytes:
        return sign_request(read_request(request), self.folder / machine, PASSPHRASE)[0]

    def merge(self, *requests: bytes) -> None:
        merge(self.repository, self.publisher.keys, PASSPHRASE, requests, now=self.publisher.now)

    def refuses(self, error: type[Exception], act: Callable[[], object], match: str | None = None) -> None:
        """Refused, and the repository is as it was, but for artifacts that nothing names."""
        before = self.tree()
        with pytest.raises(error, match=match):
            act()
        assert self.tree() == before

    def tree(self) -> dict[str, bytes]:
        files = [p for kind in ("metadata", "targets") for p in (self.repository / kind).rglob("*") if p.is_file()]
        return {str(path): path.read_bytes() for path in files}


@pytest.fixture
def ceremony(tmp_path: Path) -> Ceremony:
    return Ceremony(tmp_path)


def test_a_root_is_renewed_by_two_of_three_owners_each_on_a_machine_of_its_own(ceremony: Ceremony) -> None:
    request = ceremony.renewal("root")
    assert load_chain(ceremony.repository).root.signed.version == 1, "nothing is published yet"
    one, three = ceremony.sign(request, "root-1"), ceremony.sign(request, "root-3")
    ceremony.refuses(SignersMissing, lambda: ceremony.merge(one), "root 2 lacks 1 of the keys")
    ceremony.merge(one, three)
    assert load_chain(ceremony.repository).root.signed.version == 2
    verify_repository(ceremony.repository, now=NOW)


def test_a_request_may_also_go_from_hand_to_hand(ceremony: Ceremony) -> None:
    request = ceremony.sign(ceremony.sign(ceremony.renewal("targets"), "targets-2"), "targets-1")
    ceremony.merge(request)
    assert load_chain(ceremony.repository).targets.signed.version == 2


def test_new_owners_bring_their_own_keys(ceremony: Ceremony) -> None:
    """Their private halves never leave their machines: only public halves are collected."""
    public = []
    for number in (4, 5, 6):
        machine = ceremony.folder / f"new-{number}"
        name, key = new_key("root", machine, PASSPHRASE)
        assert name == "root-1", "numbers are each machine's own"
        public.append(ceremony.folder / f"{number}.pem")
        public[-1].write_text(key.keyval["public"])
    request = ceremony.propose(role="root", public=tuple(public), threshold=3)
    assert sorted(path.stem for path in ceremony.publisher.keys.iterdir()) == sorted(ONLINE)
    signed = [ceremony.sign(request, machine) for machine in ("root-1", "root-2", "new-4", "new-5", "new-6")]
    ceremony.refuses(SignersMissing, lambda: ceremony.merge(*signed[:4]), "root 2 lacks 1")
    ceremony.refuses(SignersMissing, lambda: ceremony.merge(*signed[1:]), "root 2 lacks 1")
    ceremony.merge(*signed)
    assert load_chain(ceremony.repository).root.signed.roles["root"].threshold == 3


def test_an_online_key_is_replaced_by_offline_owners(ceremony: Ceremony) -> None:
    request = ceremony.propose(role="timestamp", make=1)
    assert [part.role for part in read_request(request).parts] == ["root", "root"]
    (ceremony.publisher.keys / "timestamp-1.pem").unlink()
    ceremony.merge(ceremony.sign(request, "root-1"), ceremony.sign(request, "root-2"))
    chain = load_chain(ceremony.repository)
    assert chain.root.signed.version == 3
    assert len(chain.root.signed.roles["timestamp"].keyids) == 1
    verify_repository(ceremony.repository, now=NOW)


def test_a_channel_is_released_by_a_key_that_never_sees_the_repository(ceremony: Ceremony) -> None:
    request = ceremony.release(2)
    facts = [line for part in read_request(request).facts for line in part]
    assert any("newest: platform 2 (platform), security epoch 1" in line for line in facts)
    assert any("host-files vmm/host-files sha256:" in line for line in facts)
    ceremony.refuses(SignersMissing, lambda: ceremony.merge(request), "releases-platform 3 lacks 1")
    ceremony.merge(ceremony.sign(request, "releases-platform-1"))
    assert dict(verify_repository(ceremony.repository, now=NOW).channels)["releases-platform"] == 2


def test_a_refresh_in_between_does_no_harm_and_another_change_does(ceremony: Ceremony) -> None:
    request = ceremony.release(2)
    signed = ceremony.sign(request, "releases-platform-1")
    refresh(ceremony.repository, ceremony.publisher.keys, PASSPHRASE, now=NOW)
    other = ceremony.sign(ceremony.release(3), "releases-platform-1")
    ceremony.merge(signed)
    ceremony.refuses(RequestStale, lambda: ceremony.merge(other), "releases-platform 3 does not follow")
    ceremony.refuses(RequestStale, lambda: ceremony.merge(signed), "published already")


def test_an_older_request_than_a_rotation_counts_for_nothing(ceremony: Ceremony) -> None:
    """A stolen key may have signed anything before it was taken out."""
    old = ceremony.sign(ceremony.release(2), "releases-platform-1")
    request = ceremony.propose(role="releases-platform", make=1)
    signed = [ceremony.sign(request, f"targets-{number}") for number in (1, 2)]
    ceremony.merge(*signed)
    ceremony.refuses(RequestStale, lambda: ceremony.merge(old))


def test_a_signature_that_is_spoiled_does_not_spoil_another(ceremony: Ceremony) -> None:
    request = ceremony.renewal("targets")
    good = [ceremony.sign(request, "targets-1"), ceremony.sign(request, "targets-2")]
    document = SigningRequest.parse(good[0])
    metadata = json.loads(document.parts[0].metadata)
    metadata["signatures"][0]["sig"] = "3006020101020101"
    bad = replace(document, parts=(replace(document.parts[0], metadata=json.dumps(metadata).encode()),)).encode()
    ceremony.refuses(SignersMissing, lambda: ceremony.merge(bad, good[1]))
    ceremony.merge(good[0], good[1], bad)
    assert len(load_chain(ceremony.repository).targets.metadata.signatures) == 2


def test_signatures_of_strangers_are_not_published(ceremony: Ceremony) -> None:
    request = ceremony.renewal("targets")
    signed = [ceremony.sign(request, f"targets-{number}") for number in (1, 2)]
    document = SigningRequest.parse(signed[0])
    metadata = Metadata[Targets].from_bytes(document.parts[0].metadata)
    (ceremony.folder / "stranger").mkdir()
    create_key(ceremony.folder / "stranger/targets-9.pem", P384, PASSPHRASE)
    stranger = open_key("targets-9", ceremony.folder / "stranger", PASSPHRASE)
    metadata.sign(stranger, append=True)
    more = replace(document, parts=(replace(document.parts[0], metadata=metadata.to_bytes()),)).encode()
    ceremony.merge(more, signed[1])
    assert stranger.public_key.keyid not in load_chain(ceremony.repository).targets.metadata.signatures


def test_copies_of_different_requests_are_not_joined(ceremony: Ceremony) -> None:
    one = ceremony.sign(ceremony.renewal("targets"), "targets-1")
    ceremony.publisher.now += DAY
    two = ceremony.sign(ceremony.renewal("targets"), "targets-2")
    ceremony.refuses(RequestMalformed, lambda: ceremony.merge(one, two), "not copies of one request")


def test_nobody_signs_what_no_key_of_theirs_is_asked_for(ceremony: Ceremony) -> None:
    request = ceremony.renewal("root")
    for machine in ("targets-1", "releases-platform-1", "tpm-policy-1"):
        ceremony.refuses(
            SignersMissing, lambda machine=machine: ceremony.sign(request, machine), "has none of the keys"
        )
    signed = ceremony.sign(request, "root-1")
    ceremony.refuses(SignersMissing, lambda: ceremony.sign(signed, "root-1"), "has none of the keys")
    with pytest.raises(PassphraseWrong):
        sign_request(read_request(request), ceremony.folder / "root-1", b"wrong")


class TestForgedRequests:
    """Whoever makes a request may want a key's owner to sign something else than it seems to be."""

    def forged(self, request: bytes, role: str, metadata: Metadata[Targets]) -> bytes:
        document = SigningRequest.parse(request)
        return replace(
            document, parts=(replace(document.parts[0], role=role, metadata=metadata.to_bytes()),), files=()
        ).encode()

    def test_a_channels_metadata_never_delegates(self, ceremony: Ceremony) -> None:
        """Signed by a targets key it would be metadata of targets."""
        request = ceremony.renewal("releases-platform")
        evil = Metadata(Targets(version=3))
        evil.signed.delegations = Delegations({}, {"x": DelegatedRole("x", [], 1, False, paths=["*"])})
        for role in ("releases-platform", "releases-desktop"):
            with pytest.raises(RequestMalformed, match="delegates"):
                read_request(self.forged(request, role, evil))

    def test_metadata_of_targets_names_no_files(self, ceremony: Ceremony) -> None:
        request = ceremony.renewal("targets")
        channel = load_chain(ceremony.repository).releases["releases-platform"].metadata
        with pytest.raises(RequestMalformed, match="names files"):
            read_request(self.forged(request, "targets", channel))

    def test_metadata_of_targets_delegates_by_path_alone(self, ceremony: Ceremony) -> None:
        """Else its keys would get everything, and what is shown would name neither them nor what they get."""
        request = ceremony.renewal("targets")
        bins = SuccinctRoles(keyids=["1" * 64], threshold=1, bit_length=1, name_prefix="bin")
        hashed = DelegatedRole("x", ["1" * 64], 1, terminating=False, path_hash_prefixes=["0"])
        for delegations in (Delegations({}, succinct_roles=bins), Delegations({}, {"x": hashed})):
            with pytest.raises(RequestMalformed, match="delegates by hashes of paths"):
                read_request(self.forged(request, "targets", Metadata(Targets(version=3, delegations=delegations))))

    @pytest.mark.parametrize("role", ["root", "snapshot", "timestamp", "tpm-policy", "releases-", "other"])
    def test_other_roles_and_types_are_refused(self, ceremony: Ceremony, role: str) -> None:
        request = ceremony.renewal("targets")
        metadata = load_chain(ceremony.repository).targets.metadata
        with pytest.raises(RequestMalformed):
            read_request(self.forged(request, role, metadata))

    def test_a_release_is_shown_as_it_was_signed_or_not_at_all(self, ceremony: Ceremony) -> None:
        document = SigningRequest.parse(ceremony.release(2))
        (name, data), other = document.files
        wrong = data.replace(b'"epoch":1', b'"epoch":2')
        stray = ("targets/releases/platform/" + "0" * 64 + ".9.json", data)
        for files in ((), ((name, data),), ((name, wrong), (other[0], wrong)), ((name, data), other, stray)):
            with pytest.raises(RequestMalformed):
                read_request(replace(document, files=files).encode())
        half = ceremony.sign(replace(document, files=(other,)).encode(), "releases-platform-1")
        ceremony.refuses(RequestMalformed, lambda: ceremony.merge(half), r"\.2\.json did not come with it")

    def test_a_version_that_clients_would_never_find_is_not_published(self, ceremony: Ceremony) -> None:
        request = ceremony.renewal("targets")
        metadata = load_chain(ceremony.repository).targets.metadata
        metadata.signed.version = 7
        metadata.signatures.clear()
        signed = [ceremony.sign(self.forged(request, "targets", metadata), f"targets-{n}") for n in (1, 2)]
        ceremony.refuses(RequestMalformed, lambda: ceremony.merge(*signed), "has version 7, and 2 comes next")

    def test_bytes_that_are_no_request_are_refused(self, ceremony: Ceremony) -> None:
        request = ceremony.renewal("root")
        document = SigningRequest.parse(request)
        for wrong in (b"", b"{}", request[:-1], request + b" "):
            ceremony.refuses(DocumentError, lambda wrong=wrong: ceremony.merge(wrong))
        for metadata in (b"", b"{}", b"[" * 100_000, b'{"signed":{"_type":"root"},"signatures":[]}'):
            part = replace(document.parts[0], metadata=metadata)
            with pytest.raises(RequestMalformed):
                read_request(replace(document, parts=(part,)).encode())


def test_a_damaged_request_is_refused_or_tells_what_it_says(ceremony: Ceremony) -> None:
    """It is never a bug; and what still reads as a request counts for nothing without new signatures."""
    signed = ceremony.sign(ceremony.release(2), "releases-platform-1")
    good = {part.digest for part in read_request(signed).parts}
    changed = []
    for wrong in list(damaged(signed))[::5]:
        try:
            found = read_request(wrong)
        except VmgateError:
            continue
        assert all(found.facts)
        if {part.digest for part in found.parts} != good:
            changed.append(wrong)
    assert changed
    for wrong in changed[:5]:
        ceremony.refuses(UpdaterError, lambda wrong=wrong: ceremony.merge(wrong))


def test_a_rotation_that_was_cut_is_completed_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes before the last root: old and new key are both valid, and the new one is named again."""
    publisher = Publisher(tmp_path)
    new_key("timestamp", publisher.keys, PASSPHRASE)
    wanted = Rotation(role="timestamp", names=("timestamp-2",))

    def rotate() -> None:
        rotate_role(publisher.repository, publisher.keys, PASSPHRASE, wanted, now=NOW)

    class PowerCut(Exception):
        pass

    def write(repository: Path, part: change.Part) -> None:
        if part.signed.version == 3:
            raise PowerCut
        written(repository, part)

    written = change._write_part
    with monkeypatch.context() as patch:
        patch.setattr(change, "_write_part", write)
        with pytest.raises(PowerCut):
            rotate()
    verify_repository(publisher.repository, now=NOW)
    assert len(load_chain(publisher.repository).root.signed.roles["timestamp"].keyids) == 2
    rotate()
    verify_repository(publisher.repository, now=NOW)
    new = open_key("timestamp-2", publisher.keys, PASSPHRASE).public_key.keyid
    assert load_chain(publisher.repository).root.signed.roles["timestamp"].keyids == [new]


def test_there_are_never_more_roots_than_hosts_follow(ceremony: Ceremony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "LIMITS", replace(LIMITS, root_rotations=2))
    request = ceremony.propose(role="timestamp", make=1)
    signed = [ceremony.sign(request, f"root-{number}") for number in (1, 2)]
    ceremony.refuses(RotationRefused, lambda: ceremony.merge(*signed), "follow 2 roots")


def test_a_rotation_of_a_channel_reads_no_artifact(ceremony: Ceremony) -> None:
    request = ceremony.propose(role="releases-platform", make=1)
    for blob in (ceremony.repository / "blobs").rglob("?" * 64):
        blob.unlink()
    ceremony.merge(*(ceremony.sign(request, f"targets-{number}") for number in (1, 2)))


def test_a_release_whose_artifacts_went_missing_is_not_published(ceremony: Ceremony) -> None:
    signed = ceremony.sign(ceremony.release(2), "releases-platform-1")
    for blob in (ceremony.repository / "blobs").rglob("?" * 64):
        if blob.read_bytes() == b"of release 2":
            blob.unlink()
    ceremony.refuses(ReleaseRefused, lambda: ceremony.merge(signed), "nobody gave the bytes")


@pytest.mark.parametrize(
    ("wanted", "error", "match"),
    [
        ({"role": "root", "make": 1}, RotationRefused, "2 of 1 keys can never sign"),
        ({"role": "root", "make": 0}, RotationRefused, "2 of 0 keys can never sign"),
        ({"role": "timestamp", "make": 1, "threshold": 2}, RotationRefused, "2 of 1 keys"),
        ({"role": "snapshot", "names": ("timestamp-1",)}, RotationRefused, "another role"),
        ({"role": "snapshot", "names": ("snapshot-2", "snapshot-2")}, UpdaterError, "twice"),
        ({"role": "tpm-policy"}, NoSuchRole, "is none of root, targets, snapshot, timestamp, releases-platform"),
        ({"role": "releases-other"}, NoSuchRole, "is none of"),
    ],
)
def test_a_rotation_that_would_not_do_is_refused(
    ceremony: Ceremony, wanted: dict[str, object], error: type[Exception], match: str
) -> None:
    if "snapshot-2" in str(wanted):
        new_key("snapshot", ceremony.publisher.keys, PASSPHRASE)
    ceremony.refuses(error, lambda: ceremony.propose(**wanted), match)


def test_what_refresh_renews_is_not_renewed_otherwise(ceremony: Ceremony) -> None:
    ceremony.refuses(NoSuchRole, lambda: ceremony.renewal("timestamp"), "lives for days")
    ceremony.refuses(NoSuchRole, lambda: ceremony.renewal("other"), "is none of")


def test_a_key_to_be_removed_is_named_by_the_beginning_of_its_id(ceremony: Ceremony) -> None:
    from publisher.errors import NoSuchKeyId

    (first, *_) = load_chain(ceremony.repository).root.signed.roles["root"].keyids
    for text in (first[:7], "0" * 64, ""):
        ceremony.refuses(
            NoSuchKeyId, lambda text=text: ceremony.propose(role="root", remove=(text,)), "means 0 keys of the role"
        )
