# SPDX-License-Identifier: Apache-2.0
"""The image signing key never lies open in a file, and what it signs verifies with the real ``sbverify``."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from content.errors import Missing
from keys.errors import KeyExists, KeyFileMalformed, KeyUnencrypted, PassphraseWrong
from keys.files import create_key
from keys.roles import P256
from publisher.errors import ProgramFailed
from publisher.signing import ImageKey, create_image_key, sign_image

NOW = datetime(2026, 11, 23, tzinfo=UTC)
EFI = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> ImageKey:
    return create_image_key(tmp_path_factory.mktemp("keys"), b"secret", "test image key", NOW)


def test_the_key_is_encrypted_and_fits_its_certificate(key: ImageKey) -> None:
    pem = key.key.read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert key.key.stat().st_mode & 0o777 == 0o600
    opened = serialization.load_pem_private_key(pem, b"secret")
    assert isinstance(opened, rsa.RSAPrivateKey)
    assert opened.key_size == 3072
    certificate = x509.load_pem_x509_certificate(key.certificate.read_bytes())
    assert certificate.public_key() == opened.public_key()
    assert certificate.not_valid_before_utc == NOW
    certificate.verify_directly_issued_by(certificate)


def test_no_key_is_written_over_another_or_in_the_clear(key: ImageKey, tmp_path: Path) -> None:
    before = key.key.read_bytes()
    with pytest.raises(KeyExists):
        create_image_key(key.key.parent, b"secret", "again", NOW)
    assert key.key.read_bytes() == before
    with pytest.raises(KeyUnencrypted):
        create_image_key(tmp_path, b"", "open", NOW)
    assert not list(tmp_path.iterdir())


def test_a_signed_program_verifies_with_its_certificate_only(key: ImageKey, tmp_path: Path) -> None:
    out = tmp_path / "signed.efi"
    sign_image(EFI, key, b"secret", out)
    assert [path.name for path in tmp_path.iterdir()] == ["signed.efi"]
    subprocess.run(["sbverify", "--cert", key.certificate, out], check=True, capture_output=True)

    other = create_image_key(tmp_path, b"secret", "other", NOW)
    found = subprocess.run(["sbverify", "--cert", other.certificate, out], check=False, capture_output=True)
    assert found.returncode != 0


def test_what_cannot_be_signed_leaves_the_old_file(key: ImageKey, tmp_path: Path) -> None:
    out = tmp_path / "signed.efi"
    out.write_bytes(b"old")
    no_program = tmp_path / "text.efi"
    no_program.write_bytes(b"no program")
    clear = ImageKey(key=tmp_path / "clear.pem", certificate=key.certificate)
    opened = serialization.load_pem_private_key(key.key.read_bytes(), b"secret")
    clear.key.write_bytes(
        opened.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    create_key(tmp_path / "ec.pem", P256, b"secret")
    no_rsa = ImageKey(key=tmp_path / "ec.pem", certificate=key.certificate)
    absent = ImageKey(key=tmp_path / "absent.pem", certificate=key.certificate)
    before = {path.name for path in tmp_path.iterdir()}

    for error, efi, used, passphrase in (
        (ProgramFailed, no_program, key, b"secret"),
        (PassphraseWrong, EFI, key, b"wrong"),
        (KeyUnencrypted, EFI, clear, b"secret"),
        (KeyFileMalformed, EFI, no_rsa, b"secret"),
        (Missing, EFI, absent, b"secret"),
    ):
        with pytest.raises(error):
            sign_image(efi, used, passphrase, out)
        assert out.read_bytes() == b"old"
        assert {path.name for path in tmp_path.iterdir()} == before


def test_a_certificate_of_another_key_is_noticed(key: ImageKey, tmp_path: Path) -> None:
    other = create_image_key(tmp_path, b"secret", "other", NOW)
    with pytest.raises(ProgramFailed):
        sign_image(EFI, ImageKey(key=key.key, certificate=other.certificate), b"secret", tmp_path / "out.efi")
    assert not (tmp_path / "out.efi").exists()
