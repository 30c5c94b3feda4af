# SPDX-License-Identifier: Apache-2.0
"""Keys on a real PKCS#11 token (SoftHSM2): they sign metadata and TPM policies that everybody else verifies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from documents.release import SignedPolicy
from keys.errors import PinWrong, TokenUnusable
from keys.policy_signer import open_policy_signers
from keys.roles import P256, P384
from keys.signers import open_signer
from keys.unlock import Unlock
from lab import command
from lab.command import refused
from lab.publishing import NOW, PASSPHRASE, platform
from measure.policy import verify_signed_policy
from publisher.custody import Rotation, public_half, rotate_role
from updater.repository.chain import load_chain
from updater.repository.create import create
from updater.repository.refresh import refresh
from updater.repository.release import publish
from updater.repository.verify import verify_repository

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "13579"
CURVES = {P256: "secp256r1", P384: "secp384r1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token with keys that were made on it."""

    folder: Path
    pin_file: Path

    def unlock(self, pin: str | None = PIN) -> Unlock:
        return Unlock(
            passphrase=lambda: PASSPHRASE, module=MODULE, pin=None if pin is None else lambda token: _only(token, pin)
        )

    def make(self, label: str, curve: str) -> None:
        """Make a key on the token, by its own interface."""
        import pkcs11
        from pkcs11.util.ec import encode_named_curve_parameters

        token = pkcs11.lib(str(MODULE)).get_token(token_label="vmgate")
        with token.open(rw=True, user_pin=PIN) as session:
            domain = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(CURVES[curve])},
                local=True,
            )
            domain.generate_keypair(store=True, label=label, id=label.encode())


def _pin(token: str) -> str:
    return _only(token, PIN)


def _only(token: str, pin: str) -> str:
    assert token == "vmgate"
    return pin


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """One for the module: a process starts a PKCS#11 library once."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    old = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    made = ["softhsm2-util", "--init-token", "--free", "--label", "vmgate", "--so-pin", "24680", "--pin", PIN]
    subprocess.run(made, check=True, capture_output=True)
    pin_file = folder / "pin"
    pin_file.write_text(PIN + "\n")
    found = Token(folder=folder, pin_file=pin_file)
    for label, curve in (("root-4", P384), ("p384", P384), ("p256", P256), ("tpm-policy-1", P256), ("online", P256)):
        found.make(label, curve)
    yield found
    if old is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = old


@pytest.mark.parametrize("curve", [P256, P384])
@pytest.mark.parametrize("named", ["object=p{}", "id=p{}", "object=p{};id=%70{}"])
def test_a_token_signs_what_securesystemslib_verifies(token: Token, curve: str, named: str) -> None:
    bits = curve[4:7]
    uri = "pkcs11:token=vmgate;" + named.replace("{}", bits)
    signer = open_signer(uri, curve, token.unlock())
    assert signer.public_key.scheme == f"ecdsa-sha2-nistp{bits}"
    for data in (b"", b"metadata", bytes(100_000)):
        signer.public_key.verify_signature(signer.sign(data), data)


def test_module_and_pin_may_stand_in_the_address(token: Token) -> None:
    uri = f"pkcs11:token=vmgate;object=p256?module-path={MODULE}&pin-source=file:{token.pin_file}"
    signer = open_signer(uri, P256, Unlock(passphrase=lambda: b""))
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")


@pytest.mark.parametrize(
    ("uri", "curve", "match"),
    [
        ("pkcs11:token=other;object=p256", P256, "NoSuchToken"),
        ("pkcs11:token=vmgate;serial=0000;object=p256", P256, "NoSuchToken"),
        ("pkcs11:token=vmgate;object=absent", P256, "has 0 objects"),
        ("pkcs11:token=vmgate;object=p256;id=p384", P256, "has 0 objects"),
        ("pkcs11:token=vmgate;object=p256", P384, "is not on secp384r1"),
        ("pkcs11:token=vmgate;object=p256?module-path=/etc/passwd", P256, "is no PKCS#11 library"),
        ("pkcs11:token=vmgate;object=p256?module-path=/nonexistent.so", P256, "is no PKCS#11 library"),
    ],
)
def test_what_is_not_there_is_named(token: Token, uri: str, curve: str, match: str) -> None:
    with pytest.raises(TokenUnusable, match=match):
        open_signer(uri, curve, token.unlock())


def test_nothing_is_guessed(token: Token) -> None:
    uri = "pkcs11:token=vmgate;object=p256"
    with pytest.raises(TokenUnusable, match="nobody said which library"):
        open_signer(uri, P256, Unlock(passphrase=lambda: b"", pin=_pin))
    with pytest.raises(TokenUnusable, match="nobody gave the PIN of token vmgate"):
        open_signer(uri, P256, token.unlock(None))
    with pytest.raises(PinWrong, match="PinIncorrect"):
        open_signer(uri, P256, token.unlock("99999"))
    # One wrong PIN does not keep the right one out.
    open_signer(uri, P256, token.unlock())


def test_two_keys_of_one_name_are_none(token: Token) -> None:
    for _ in range(2):
        token.make("twin", P256)
    with pytest.raises(TokenUnusable, match="has 2 objects of that name and kind PUBLIC_KEY"):
        open_signer("pkcs11:token=vmgate;object=twin", P256, token.unlock())


def test_a_tpm_policy_is_signed_on_the_token(token: Token, tmp_path: Path) -> None:
    (tmp_path / "signers.toml").write_text('[signers]\ntpm-policy-1 = "pkcs11:token=vmgate;object=tpm-policy-1"\n')
    (signer,) = open_policy_signers(tmp_path, token.unlock())
    unsigned = SignedPolicy(entry="fresh", predecessor=0, epoch=3, pcrs=((13, "ab" * 32),), signature=bytes(64))
    signature = signer.sign(dict(unsigned.pcrs), "platform", 3)
    signed = SignedPolicy(entry="fresh", predecessor=0, epoch=3, pcrs=unsigned.pcrs, signature=signature)
    assert verify_signed_policy(signed, [signer.public()], "platform") == signer.public()


def test_a_repository_lives_on_keys_of_a_token(token: Token, tmp_path: Path) -> None:
    """Born with a timestamp key on the token, and given a root key there later."""
    repository, keys = tmp_path / "repository", tmp_path / "keys"
    keys.mkdir()
    signers = '[signers]\ntimestamp-1 = "pkcs11:token=vmgate;object=online"\n'
    (keys / "signers.toml").write_text(signers)
    create(repository, keys, token.unlock(), ("platform",), now=NOW)
    assert not (keys / "timestamp-1.pem").exists()

    (keys / "signers.toml").write_text(signers + 'root-4 = "pkcs11:token=vmgate;object=root-4"\n')
    first = load_chain(repository).root.signed.roles["root"].keyids[0]
    wanted = Rotation(role="root", names=("root-4",), remove=(first,))
    rotate_role(repository, keys, token.unlock(), wanted, now=NOW)
    root = load_chain(repository).root.signed
    assert public_half("root-4", keys, token.unlock()).keyid in root.roles["root"].keyids

    for name in ("root-1", "root-2"):
        (keys / f"{name}.pem").unlink()
    rotate_role(repository, keys, token.unlock(), Rotation(role="snapshot"), now=NOW)  # Signed by root-3 and the token.
    refresh(repository, keys, token.unlock(), now=NOW)
    artifact = tmp_path / "artifact"
    artifact.write_bytes(b"host files")
    from content.fsverity import digest_file
    from documents.release import Artifact

    measured = digest_file(artifact)
    named = Artifact(name="vmm/x", kind="host-files", fsverity=measured.fsverity, length=measured.length)
    publish(repository, keys, token.unlock(), platform(1, named).encode(), [artifact], now=NOW)
    verify_repository(repository, now=NOW)


def test_the_command_takes_module_and_pin_by_option_or_environment(token: Token, tmp_path: Path) -> None:
    (tmp_path / "signers.toml").write_text('[signers]\nroot-9 = "pkcs11:token=vmgate;object=root-4"\n')
    shown = ("repo", "public", "root-9", "--keys", tmp_path)
    named = command.run(*shown, "--pkcs11-module", MODULE, "--pin-file", token.pin_file)
    assert (named.exit, named.err) == (0, "")
    environment = {"VMGATE_PKCS11_MODULE": str(MODULE), "VMGATE_PIN_FILE": str(token.pin_file)}
    assert command.run(*shown, **environment).out == named.out
    assert refused(command.run(*shown, "--pin-file", token.pin_file), 7).code == "KY008"
    assert refused(command.run(*shown, "--pkcs11-module", MODULE), 2).cause.endswith("to ask for the pin")
    wrong = tmp_path / "pin"
    wrong.write_text("99999\n")
    assert refused(command.run(*shown, "--pkcs11-module", MODULE, "--pin-file", wrong), 4).code == "KY009"
