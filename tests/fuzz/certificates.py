# SPDX-License-Identifier: Apache-2.0
"""Certificates of TPMs to damage, and what must hold for those that are let through."""

from __future__ import annotations

from pathlib import Path

from lab.pem import pem
from lab.vendor import NOW, Authority, ecc_key, stored, unsorted
from measure.certificate import LIMIT, SAN, names, parse_certificate, parse_several
from measure.credential import make_credential
from measure.ek_path import CHAIN, LENGTH, verify_ek_certificate
from measure.ek_roots import Roots, read_certificates, read_revoked
from measure.endorsement import parse_ek, template
from measure.errors import CertificateMalformed, CertificateUntrusted
from measure.templates import sized

ROOT = Authority("fuzzed root")
MIDDLE = Authority("fuzzed middle", ROOT)
EK = ecc_key(5).public_key()
ROOTS = Roots([parse_certificate(ROOT.certificate)])
GOOD, UNSORTED = MIDDLE.ek(EK), MIDDLE.ek(EK, edit=unsorted)
SIGNED = {parse_certificate(certificate).signed for certificate in (GOOD, UNSORTED)}

# An RSA key is drawn anew at each run; its modulus is the same here, so that a case can be made again.
MODULUS = b"\xc5" + bytes(range(1, 255)) + b"\x01"


def leaves() -> list[bytes]:
    """Certificates of all sorts."""
    return [GOOD, stored(GOOD), UNSORTED, ROOT.certificate]


def check_leaf(folder: Path, untrusted: bytes) -> None:
    """Whoever is vouched for says what was signed; all parts are the bytes that came."""
    found = parse_certificate(untrusted)
    assert len(found.raw) <= LIMIT
    for part in (found.raw, found.signed, found.issuer, found.subject, found.serial, found.signature):
        assert part in untrusted
    found.authority, found.may(5), found.purposes()
    if SAN in found.extensions:
        names(found.extensions[SAN].value)
    try:
        vouched = verify_ek_certificate(untrusted, MIDDLE.certificate, ROOTS, NOW)
    except CertificateUntrusted:
        return
    assert vouched.certificate.signed in SIGNED
    assert len(vouched.path) <= LENGTH


def chains() -> list[bytes]:
    """Issuers one after the other."""
    return [MIDDLE.certificate + ROOT.certificate, MIDDLE.certificate + b"\xff" * 20]


def check_chain(folder: Path, untrusted: bytes) -> None:
    """Nothing that is sent along makes a stranger known; what is left out, only unknown."""
    found = parse_several(untrusted, CHAIN)
    assert b"".join(certificate.raw for certificate in found) in untrusted
    for leaf, known in ((GOOD, True), (Authority("stranger").ek(EK), False)):
        try:
            path = verify_ek_certificate(leaf, untrusted, ROOTS, NOW).path
        except (CertificateUntrusted, CertificateMalformed):
            continue
        assert known
        assert path[-1].raw == ROOT.certificate


def files() -> list[bytes]:
    """Files of a folder of roots."""
    return [ROOT.certificate, (pem(ROOT.certificate) + pem(MIDDLE.certificate)).encode()]


def check_file(folder: Path, untrusted: bytes) -> None:
    """A file gives certificates or an error, never none."""
    assert read_certificates(untrusted)


def check_revoked(folder: Path, untrusted: bytes) -> None:
    """Whatever the list says, it can be asked."""
    Roots([parse_certificate(ROOT.certificate)], (), read_revoked(untrusted)).revokes(parse_certificate(GOOD))


def publics() -> list[bytes]:
    """Endorsement keys."""
    numbers = EK.public_numbers()
    point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return [template("ecc")[:-68] + point, template("rsa")[:-258] + sized(MODULUS)]


def check_public(folder: Path, untrusted: bytes) -> None:
    """What is let through can be given a secret."""
    ek = parse_ek(untrusted)
    assert len(ek.name) == 34
    credential, seed = make_credential(ek, bytes(34), b"secret")
    assert (len(credential), len(seed)) == (44, 258 if ek.kind == "rsa" else 70)
