# SPDX-License-Identifier: Apache-2.0
"""Key files: encrypted or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from content.errors import Missing, TooLarge
from documents.errors import Exit
from keys.errors import KeyExists, KeyFileMalformed, KeyUnencrypted, PassphraseWrong
from keys.files import create_key, load_key
from keys.roles import CURVES, P256, P384

SECRET = b"correct horse"


@pytest.mark.parametrize("curve", CURVES)
def test_a_key_comes_back_as_it_was_made(tmp_path: Path, curve: str) -> None:
    path = tmp_path / "key.pem"
    made = create_key(path, curve, SECRET)
    assert load_key(path, curve, SECRET).private_numbers() == made.private_numbers()
    assert made.curve.name == curve
    assert path.stat().st_mode & 0o7777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_key(path, P256, SECRET)
    before = path.read_bytes()
    with pytest.raises(KeyExists):
        create_key(path, P256, SECRET)
    assert path.read_bytes() == before


def test_a_key_is_never_written_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(KeyUnencrypted):
        create_key(tmp_path / "key.pem", P256, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [b"", b"Correct horse", b"\xff" * 1000])
def test_a_wrong_passphrase_is_told_without_the_passphrase(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "key.pem"
    create_key(path, P384, SECRET)
    with pytest.raises(PassphraseWrong) as caught:
        load_key(path, P384, wrong)
    assert caught.value.exit == Exit.NOT_PERMITTED
    assert "horse" not in str(caught.value)


def test_a_key_in_the_clear_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        with pytest.raises(KeyUnencrypted, match="unencrypted"):
            load_key(path, P256, SECRET)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_key(path, P256, SECRET)
    with pytest.raises(KeyFileMalformed, match=P384):
        load_key(path, P384, SECRET)
    path.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET),
        )
    )
    with pytest.raises(KeyFileMalformed):
        load_key(path, P256, SECRET)


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(KeyFileMalformed):
        load_key(path, P256, SECRET)


def test_a_damaged_file_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_key(path, P256, SECRET)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(PassphraseWrong):
        load_key(path, P256, SECRET)


def test_a_missing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Missing):
        load_key(tmp_path / "key.pem", P256, SECRET)
    (tmp_path / "key.pem").write_bytes(b"x" * 5000)
    with pytest.raises(TooLarge):
        load_key(tmp_path / "key.pem", P256, SECRET)
