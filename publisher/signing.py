# SPDX-License-Identifier: Apache-2.0
"""The key that signs what a VM's firmware starts, its certificate, and signing an EFI program with it.

RSA, because UEFI firmware takes nothing else (UEFI 2.10, section 32.4.1); so it is no key of ``keys``. One certificate
may serve as PK, KEK and db: a VM's variables are made anew from the signed template at each start, so nothing is ever
enrolled at run time. This module does not sign releases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from content import durable
from keys.errors import KeyExists, KeyFileMalformed, KeyUnencrypted, PassphraseWrong
from publisher import programs

KEY_BITS = 3072
LIFETIME = timedelta(days=20 * 365)
"""Firmware has no clock that it could trust and does not look at validity; other readers do."""

PEM_LIMIT = 16_384
"""Bytes of a key or certificate file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """Where an image signing key lies.

    Attributes:
        key: the private key, PKCS#8 in PEM, encrypted.
        certificate: the self-signed certificate, PEM.
    """

    key: Path
    certificate: Path

    @classmethod
    def within(cls, folder: Path) -> ImageKey:
        """The image signing key of a keys folder."""
        return cls(key=folder / "image-1.pem", certificate=folder / "image-1.crt")


def create_image_key(folder: Path, passphrase: bytes, name: str, now: datetime) -> ImageKey:
    """Make an image signing key and its certificate.

    Args:
        folder: must exist.
        passphrase: not empty.
        name: the certificate's common name, up to 64 characters.
        now: from when the certificate is valid, with a time zone.

    Raises:
        KeyExists: there is one in the folder.
        KeyUnencrypted: the passphrase is empty.
        ContentError: it could not be written.
    """
    place = ImageKey.within(folder)
    if not passphrase:
        raise KeyUnencrypted("the key was not made", cause="the passphrase is empty", remedy="give a passphrase")
    for path in (place.key, place.certificate):
        if path.exists() or path.is_symlink():
            raise KeyExists("the key was not made", cause=f"{path} is there already", remedy="choose another folder")
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    encryption = serialization.BestAvailableEncryption(passphrase)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    durable.write_file(place.key, pem, 0o600)
    certificate = _certificate(key, name, now).public_bytes(serialization.Encoding.PEM)
    durable.write_file(place.certificate, certificate, 0o644)
    return place


def sign_image(efi: Path, key: ImageKey, passphrase: bytes, out: Path) -> None:
    """Sign an EFI program (Authenticode, UEFI 2.10 section 32.2) and check the signature.

    ``sbsign`` cannot open an encrypted key, so it reads the key from a pipe: the open key lies in no file, not even on
    a memory file system, is not on the command line, and can be read once only.

    Raises:
        PassphraseWrong: the key does not open.
        KeyFileMalformed: it is no RSA key.
        KeyUnencrypted: it lies in the clear.
        ProgramFailed: ``sbsign`` or ``sbverify`` is missing or failed.
        ContentError: a file cannot be read or written.
    """
    what = "the EFI program was not signed"
    clear = _open_key(key.key, passphrase)
    signed = durable.temporary(out.parent.absolute())
    certificate, program = str(key.certificate.absolute()), str(efi.absolute())
    try:
        with _pipe(clear) as descriptor:
            secret = f"/dev/fd/{descriptor}"
            command = ["sbsign", "--key", secret, "--cert", certificate, "--output", str(signed), program]
            programs.run(command, what, pass_fds=(descriptor,))
        programs.run(["sbverify", "--cert", certificate, str(signed)], what)
        # A copy, since only what `durable` wrote is known to survive a power cut.
        durable.copy_file(signed, out, 0o644)
    finally:
        durable.remove(signed)


def _certificate(key: rsa.RSAPrivateKey, name: str, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _open_key(path: Path, passphrase: bytes) -> bytes:
    """The key as an unencrypted PEM. The caller keeps it in memory only."""
    untrusted_pem = durable.read_file(path, PEM_LIMIT)
    what = "the EFI program was not signed"
    try:
        key = serialization.load_pem_private_key(untrusted_pem, passphrase)
    except TypeError as error:
        raise KeyUnencrypted(what, cause=f"{path} holds its key in the clear", remedy="encrypt it") from error
    except ValueError as error:
        raise PassphraseWrong(
            what,
            cause=f"{path} did not open: a wrong passphrase, or a damaged file",
            remedy="try again with the right passphrase",
        ) from error
    except UnsupportedAlgorithm as error:
        raise KeyFileMalformed(what, cause=f"{path} is not of a known kind", remedy="name the right file") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyFileMalformed(what, cause=f"{path} holds no RSA key", remedy="name the right key file")
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextmanager
def _pipe(secret: bytes) -> Iterator[int]:
    """The reading end of a pipe that holds ``secret`` and ends after it. It fits: a pipe takes 64 KiB on Linux."""
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, secret)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)
