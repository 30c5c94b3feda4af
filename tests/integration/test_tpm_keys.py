# SPDX-License-Identifier: Apache-2.0
"""A publisher's keys inside a TPM (real swtpm): they sign metadata and TPM policies, and no other TPM can use them.

The TPM has no resource manager before it, so what is left loaded is missed: it holds three objects and three sessions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from documents.errors import DocumentError
from documents.release import Release
from documents.tpm_key import TpmKey
from keys.errors import CurveRefused, KeyFileMalformed, KeyOfAnotherTpm, PinWrong, TpmUnusable
from keys.policy_signer import open_policy_signers
from keys.roles import P256, P384
from keys.signers import open_signer
from keys.tpm_signer import create_tpm_key
from keys.unlock import Unlock
from lab import command
from lab.command import refused
from lab.fleet import Fleet
from lab.hostile import Host, Scene, scene
from lab.measuring import CHANNEL, booted, platform
from lab.publisher import PASSPHRASE as DESK_PASSPHRASE
from lab.publisher import Desk
from lab.publishing import NOW, PASSPHRASE, Publisher
from lab.tpm import SoftwareTpm
from lab.world import copied
from measure import guard
from measure.errors import SealShut
from measure.tpm import Tpm
from measure.tpm_keys import TpmKeys
from publisher.custody import Rotation, new_tpm_key, rotate_role
from updater.repository.assignments import renew
from updater.repository.assignments_role import replace_key
from updater.repository.chain import load_chain
from updater.repository.refresh import refresh
from updater.repository.verify import verify_repository

PIN = "a pin of the tests"
SIGNATURES = 200


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "t") as found:
        yield found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with SoftwareTpm(tmp_path / "o") as found:
        yield found


def unlock(chip: SoftwareTpm | None, pin: str | None = PIN, passphrase: bytes = PASSPHRASE) -> Unlock:
    return Unlock(
        passphrase=lambda: passphrase,
        tcti=chip.tcti if chip else "",
        tpm=TpmKeys,
        pin=None if pin is None else lambda _: pin,
    )


def handles(chip: SoftwareTpm) -> int:
    with Tpm.open(chip.tcti) as tpm:
        return tpm.handles()


def test_a_key_signs_what_securesystemslib_verifies_and_leaves_nothing_in_the_tpm(
    chip: SoftwareTpm, tmp_path: Path
) -> None:
    path = tmp_path / "key.tpm"
    made = create_tpm_key(path, "timestamp-1", P256, unlock(chip))
    assert path.stat().st_mode & 0o777 == 0o600
    assert TpmKey.parse(path.read_bytes()).name == "timestamp-1"
    signer = open_signer(f"tpm:{path}", P256, unlock(chip))
    assert signer.public_key == made
    assert (made.keytype, made.scheme) == ("ecdsa", "ecdsa-sha2-nistp256")
    before = handles(chip)
    for number in range(SIGNATURES):
        data = number.to_bytes(2) * number
        made.verify_signature(signer.sign(data), data)
    assert handles(chip) == before == 0
    chip.power_cycle()
    made.verify_signature(signer.sign(b"after a power cut"), b"after a power cut")


def test_it_signs_while_somebody_else_holds_one_of_the_three_slots(chip: SoftwareTpm, tmp_path: Path) -> None:
    create_tpm_key(tmp_path / "key.tpm", "timestamp-1", P256, unlock(chip))
    key = TpmKey.parse((tmp_path / "key.tpm").read_bytes())
    with Tpm.open(chip.tcti) as tpm:
        with tpm._loaded(key.public, key.private):
            assert tpm.handles() == 1
            assert tpm.sign_digest(key.public, key.private, PIN.encode(), bytes(32))
            assert tpm.handles() == 1
        assert tpm.handles() == 0


def test_another_tpm_cannot_use_it_and_says_so_in_one_line(
    chip: SoftwareTpm, other: SoftwareTpm, tmp_path: Path
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    create_tpm_key(tmp_path / "timestamp-1.tpm", "timestamp-1", P256, unlock(chip))
    signer = open_signer(f"tpm:{tmp_path}/timestamp-1.tpm", P256, unlock(chip))
    with pytest.raises(KeyOfAnotherTpm, match="did not make it"):
        open_signer(f"tpm:{tmp_path}/timestamp-1.tpm", P256, unlock(other))
    assert handles(other) == 0

    shown = ("repo", "public", "timestamp-1", "--keys", tmp_path, "--pin-file", pin)
    assert command.run(*shown, "--tcti", chip.tcti).out.split()[1] == signer.public_key.keyid
    line = refused(command.run(*shown, "--tcti", other.tcti), 5)
    assert (line.code, line.what) == ("KY014", "the key timestamp-1 in a TPM was not used")

    # A cleared TPM is another one, also in the middle.
    with Tpm.open(chip.tcti) as tpm:
        tpm._esys.clear(_lockout())
    with pytest.raises(KeyOfAnotherTpm):
        signer.sign(b"data")


def _lockout() -> object:
    import tpm2_pytss as tss

    return tss.ESYS_TR.LOCKOUT


def test_only_its_pin_uses_it_and_wrong_ones_are_counted(chip: SoftwareTpm, tmp_path: Path) -> None:
    path = tmp_path / "key.tpm"
    create_tpm_key(path, "timestamp-1", P256, unlock(chip))
    for pin in ("wrong", PIN + "x"):
        with pytest.raises(PinWrong, match="the PIN is wrong"):
            open_signer(f"tpm:{path}", P256, unlock(chip, pin)).sign(b"data")
    signer = open_signer(f"tpm:{path}", P256, unlock(chip))
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")
    for _ in range(5):
        with pytest.raises(PinWrong) as caught:
            open_signer(f"tpm:{path}", P256, unlock(chip, "wrong")).sign(b"data")
    assert "no PIN for a while" in caught.value.cause
    # Now the right one does not help either; what a host seals has no PIN and still works.
    with pytest.raises(PinWrong, match="no PIN for a while"):
        signer.sign(b"data")
    with Tpm.open(chip.tcti) as tpm:
        assert tpm.create_ak()
        assert tpm.handles() == 0


def test_power_cuts_after_signatures_count_as_wrong_pins(chip: SoftwareTpm) -> None:
    """As the guide says; a TPM that was told to shut down, or made no signature, counts none."""
    keys = TpmKeys(chip.tcti)
    key = keys.create("timestamp-1", PIN.encode())
    for _ in range(3):
        assert keys.sign(key, PIN.encode(), bytes(32))
        chip.power_cycle()
        assert keys.public(key)
        chip.power_cycle()
    with pytest.raises(PinWrong, match="power cuts"):
        keys.sign(key, PIN.encode(), bytes(32))


@pytest.mark.parametrize("pin", ["", "x" * 33, "pin\0"])
def test_a_pin_that_a_tpm_would_not_keep_makes_no_key(chip: SoftwareTpm, tmp_path: Path, pin: str) -> None:
    with pytest.raises(PinWrong, match="1 to 32 bytes"):
        create_tpm_key(tmp_path / "key.tpm", "timestamp-1", P256, unlock(chip, pin))
    assert list(tmp_path.glob("*.tpm")) == []


def test_a_key_of_another_kind_is_none(chip: SoftwareTpm, tmp_path: Path) -> None:
    """Also one that the TPM would load, such as a host's purpose key, whose PIN is nothing."""
    path = tmp_path / "key.tpm"
    with Tpm.open(chip.tcti) as tpm:
        public, private = tpm.create_purpose_key(bytes(32))
        sealed = tpm.seal(b"secret", bytes(32))
    good = tpm_key(chip, path)
    for bad in (
        replace(good, public=public, private=private),
        replace(good, public=sealed[0], private=sealed[1]),
        replace(good, public=b""),
        replace(good, public=good.public + b"\0"),
    ):
        path.write_bytes(bad.encode())
        with pytest.raises(KeyFileMalformed):
            open_signer(f"tpm:{path}", P256, unlock(chip))
    # The public half of one key with the private half of another.
    path.write_bytes(replace(good, private=private).encode())
    with pytest.raises(KeyOfAnotherTpm):
        open_signer(f"tpm:{path}", P256, unlock(chip))
    path.write_bytes(b"{}")
    with pytest.raises(DocumentError):
        open_signer(f"tpm:{path}", P256, unlock(chip))
    assert handles(chip) == 0


def tpm_key(chip: SoftwareTpm, path: Path) -> TpmKey:
    create_tpm_key(path, "timestamp-1", P256, unlock(chip))
    return TpmKey.parse(path.read_bytes())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_changed_file_never_makes_another_key(chip: SoftwareTpm, data: st.DataObject) -> None:
    keys = TpmKeys(chip.tcti)
    key = keys.create("timestamp-1", PIN.encode())
    at = data.draw(st.integers(0, len(key.public) + len(key.private) - 1))
    flip = data.draw(st.integers(1, 255))
    joined = bytearray(key.public + key.private)
    joined[at] ^= flip
    end = len(key.public)
    with pytest.raises((KeyFileMalformed, KeyOfAnotherTpm)):
        keys.public(replace(key, public=bytes(joined[:end]), private=bytes(joined[end:])))


def test_nothing_is_guessed(chip: SoftwareTpm, tmp_path: Path) -> None:
    path = tmp_path / "key.tpm"
    create_tpm_key(path, "timestamp-1", P256, unlock(chip))
    with pytest.raises(TpmUnusable, match="nobody said which TPM"):
        open_signer(f"tpm:{path}", P256, unlock(None))
    with pytest.raises(TpmUnusable, match="nobody said which TPM"):
        open_signer(f"tpm:{path}", P256, PASSPHRASE)
    with pytest.raises(TpmUnusable, match="does not reach TPMs"):
        open_signer(f"tpm:{path}", P256, replace(unlock(chip), tpm=None))
    with pytest.raises(TpmUnusable, match="no TPM answers at swtpm:path=/nowhere/tpm"):
        open_signer(f"tpm:{path}?tcti=swtpm:path=/nowhere/tpm", P256, unlock(chip))
    with pytest.raises(TpmUnusable, match="nobody gave the PIN of timestamp-1"):
        open_signer(f"tpm:{path}", P256, unlock(chip, None)).sign(b"data")
    with pytest.raises(CurveRefused, match="secp384r1"):
        open_signer(f"tpm:{path}", P384, unlock(chip))
    # All of it in the address.
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    signer = open_signer(f"tpm:{path}?tcti={chip.tcti}&pin-source=file:{pin}", P256, unlock(None, None))
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")


def test_the_policy_signature_of_a_tpm_opens_a_sealed_key_in_another(
    chip: SoftwareTpm, other: SoftwareTpm, tmp_path: Path
) -> None:
    """The publisher's TPM signs; the host's, which has never seen it, opens."""
    new_tpm_key("tpm-policy", tmp_path, unlock(chip))
    (signer,) = open_policy_signers(tmp_path, unlock(chip))
    signed = platform(1, signer=signer)  # type: ignore[arg-type]
    with Tpm.open(other.tcti) as host:
        first, *rest = booted(signed)
        host.extend(first[0], first[1].encode())
        terms = guard.Terms(channel=CHANNEL, epoch=1, key=signer.public(), counter=host.counter())
        kek, sealed = guard.create(host, terms, os.urandom)
        with pytest.raises(SealShut):
            guard.unseal(host, sealed, signed.policies)
        for pcr, event in rest:
            host.extend(pcr, event.encode())
        assert guard.unseal(host, sealed, signed.policies) == kek
        with pytest.raises(SealShut):
            guard.unseal(host, sealed, platform(1).policies)
    assert handles(chip) == 0


def test_a_repository_is_born_with_keys_in_a_tpm(chip: SoftwareTpm, tmp_path: Path) -> None:
    """By the command, as a publisher does it: keygen, init, refresh, assignments."""
    repository, keys, pin, words = (tmp_path / name for name in ("repository", "keys", "pin", "passphrase"))
    pin.write_text(PIN)
    words.write_bytes(PASSPHRASE)
    options = ("--keys", keys, "--pin-file", pin, "--passphrase-file", words)
    roles = ("timestamp", "snapshot", "assignments", "tpm-policy")
    for role in roles:
        made = command.run("repo", "keygen", role, *options, "--tpm", chip.tcti)
        assert (made.exit, made.out.split()[0]) == (0, f"{role}-1")
    assert refused(command.run("repo", "keygen", "root", *options, "--tpm", chip.tcti), 6).code == "KY015"
    named = {"VMGATE_TCTI": chip.tcti}
    born = command.run("repo", "init", repository, *options, "--anchor", tmp_path / "root.json", **named)
    assert born.exit == 0, born.err
    assert command.run("repo", "assign", "init", repository, *options, **named).exit == 0
    assert command.run("repo", "refresh", repository, *options, "--tcti", chip.tcti).exit == 0
    assert refused(command.run("repo", "refresh", repository, *options), 7).code == "KY013"
    pem = {path.stem.rpartition("-")[0] for path in keys.glob("*.pem")}
    assert pem.isdisjoint(roles)
    assert handles(chip) == 0
    # The environment says where keys are, not where new ones are made.
    assert command.run("repo", "keygen", "snapshot", *options, **named).exit == 0
    assert (keys / "snapshot-2.pem").exists()


def test_assignments_move_into_a_tpm_and_to_the_next(chip: SoftwareTpm, other: SoftwareTpm, tmp_path: Path) -> None:
    """By the offline keys, since a TPM that is gone signs nothing any more; the hosts' assignments stay."""
    publisher = Publisher(tmp_path)
    fleet = Fleet(publisher)
    fleet.assign("one", "two")
    place = (publisher.repository, publisher.keys)
    old = publisher.keys / "assignments-1.pem"
    for held, lost in ((chip, other), (other, chip)):
        old.unlink()
        name, key = new_tpm_key("assignments", publisher.keys, unlock(held))
        assert replace_key(*place, unlock(held), now=NOW) > 0
        chain = load_chain(publisher.repository)
        assert chain.targets.signed.delegations is not None
        assert key.keyid in chain.targets.signed.delegations.keys
        renew(*place, unlock(held), now=NOW)
        with pytest.raises(KeyOfAnotherTpm):
            renew(*place, unlock(lost), now=NOW)
        verify_repository(publisher.repository, now=NOW)
        old = publisher.keys / f"{name}.tpm"


def test_a_platform_release_carries_policies_that_a_tpm_signed(
    chip: SoftwareTpm, other: SoftwareTpm, desk: Desk, tmp_path: Path
) -> None:
    """The whole way by the command: the next policy key is the TPM's, and a host seals for it."""
    publisher, pin, words = copied(desk, tmp_path), tmp_path / "pin", tmp_path / "passphrase"
    pin.write_text(PIN)
    words.write_text(DESK_PASSPHRASE)
    options = ("--keys", publisher.keys, "--pin-file", pin, "--passphrase-file", words)
    made = command.run("repo", "keygen", "tpm-policy", *options, "--tpm", chip.tcti)
    assert made.out.split()[0] == "tpm-policy-2"
    recipe = publisher.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024, epoch=2)
    released = ("repo", "release", publisher.repository, recipe, *options)
    before = command.state(publisher.repository)
    assert refused(command.run(*released, "--tcti", other.tcti, cwd=publisher.folder), 5).code == "KY014"
    assert command.state(publisher.repository) == before
    done = command.run(*released, "--tcti", chip.tcti, cwd=publisher.folder)
    assert done.exit == 0, done.err

    (current,) = (publisher.repository / "targets/releases/platform").glob("*.2.json")
    release = Release.parse(current.read_bytes())
    ours = open_policy_signers(publisher.keys, unlock(chip, PIN, DESK_PASSPHRASE.encode()))[0].public()
    assert release.policy_keys[0] == ours
    with Tpm.open(other.tcti) as host:
        for pcr, event in booted(release):
            host.extend(pcr, event.encode())
        terms = guard.Terms(channel=release.channel, epoch=2, key=ours, counter=host.counter())
        kek, sealed = guard.create(host, terms, os.urandom)
        assert guard.unseal(host, sealed, release.policies) == kek


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as running:
        yield running


def test_hosts_follow_a_repository_into_a_tpm(
    chip: SoftwareTpm, other: SoftwareTpm, stage: Scene, tmp_path: Path
) -> None:
    publisher, secret = stage.publisher, unlock(chip)
    for role in ("timestamp", "snapshot"):
        name, key = new_tpm_key(role, publisher.keys, secret)
        assert name == f"{role}-2"
        rotate_role(
            publisher.repository,
            publisher.keys,
            secret,
            Rotation(role=role, names=(name,)),
            now=stage.now,
        )
        (publisher.keys / f"{role}-1.pem").unlink()
        assert load_chain(publisher.repository).root.signed.roles[role].keyids == [key.keyid]
    policy_key, _ = new_tpm_key("tpm-policy", publisher.keys, secret)
    assert policy_key == "tpm-policy-2"

    # A thief of the folder who has the passphrase and the PIN, but not the TPM, publishes nothing.
    before = command.state(publisher.repository)
    with pytest.raises(KeyOfAnotherTpm):
        refresh(publisher.repository, publisher.keys, unlock(other), now=stage.now)
    assert command.state(publisher.repository) == before

    publisher.secret = secret
    publisher.publish_platform(2)
    refresh(publisher.repository, publisher.keys, secret, now=stage.now)
    verify_repository(publisher.repository, now=stage.now)
    for host in (stage.host, Host(tmp_path / "fresh", publisher.anchor)):
        generation = host.apply(stage.source, stage.now)
        assert generation is not None
        assert generation.platform.number == 2
    assert handles(chip) == 0
