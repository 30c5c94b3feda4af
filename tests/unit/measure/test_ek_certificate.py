# SPDX-License-Identifier: Apache-2.0
"""Certificates of endorsement keys: what vendors malform is read, and nobody is believed whom no root vouches for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from lab.vendor import (
    CHIP,
    INNER,
    KEY,
    NOW,
    SERIAL,
    SERVER_PURPOSE,
    SWTPM,
    VALIDITY,
    Authority,
    attribute_certificate,
    ecc_key,
    marked_for_oaep,
    parts,
    replaced,
    rsa_key,
    stored,
    tlv,
    unsorted,
)
from measure import der
from measure.certificate import LIMIT, parse_certificate, parse_several
from measure.ek_path import CHAIN, LENGTH, verify_ek_certificate
from measure.ek_roots import Roots, read_certificates, read_revoked
from measure.errors import CertificateMalformed, CertificateUntrusted, RootsUnusable

EK = ecc_key(7).public_key()
RSA_EK = rsa_key(7).public_key()
ROOT = Authority("root")
MIDDLE = Authority("middle", ROOT)
LEAF = MIDDLE.ek(EK)


def roots(*chips: Authority, software: tuple[Authority, ...] = (), revoked: tuple[str, ...] = ()) -> Roots:
    found = [[parse_certificate(authority.certificate) for authority in kind] for kind in (chips, software)]
    return Roots(*found, revoked)


KNOWN, OWN = roots(ROOT), roots(ROOT, MIDDLE)


def refusal(leaf: bytes, chain: bytes = MIDDLE.certificate, known: Roots = KNOWN, time: int = NOW) -> str:
    """Why a certificate is refused."""
    with pytest.raises((CertificateUntrusted, CertificateMalformed)) as refused:
        verify_ek_certificate(leaf, chain, known, time)
    assert refused.value.exit == 5
    assert refused.value.line().isprintable()
    return str(refused.value.reason)


def test_a_root_vouches_for_a_chip() -> None:
    vouched = verify_ek_certificate(LEAF, MIDDLE.certificate, KNOWN, NOW)
    assert vouched.certificate.key == EK
    assert [found.raw for found in vouched.path] == [LEAF, MIDDLE.certificate, ROOT.certificate]
    assert (vouched.chip, vouched.manufacturer) == (True, CHIP)
    # The verifier can have the one in the middle as well.
    assert verify_ek_certificate(LEAF, b"", roots(MIDDLE, ROOT), NOW).path == vouched.path


DEFECTS: dict[str, Callable[[], bytes]] = {
    "padding-00": lambda: LEAF + bytes(500),
    "padding-ff": lambda: LEAF + b"\xff" * 500,
    "header": lambda: stored(LEAF),
    "header-without-second-tag": lambda: stored(LEAF, full=False),
    "bytes-behind-the-end": lambda: LEAF + b"AMD\x30\x03xyz",
    "unsorted-set": lambda: MIDDLE.ek(EK, edit=unsorted),
    "serial-with-leading-zeros": lambda: MIDDLE.ek(EK, edit=replaced(SERIAL, tlv(2, b"\0\0\0\x05"))),
    "negative-serial": lambda: MIDDLE.ek(EK, edit=replaced(SERIAL, tlv(2, b"\xff\x80\x01"))),
    "empty-serial": lambda: MIDDLE.ek(EK, edit=replaced(SERIAL, tlv(2, b""))),
    "huge-serial": lambda: MIDDLE.ek(EK, edit=replaced(SERIAL, tlv(2, b"\x7f" * 40))),
    "no-seconds": lambda: MIDDLE.ek(
        EK, edit=replaced(VALIDITY, tlv(0x30, tlv(0x17, b"2601010000Z") + tlv(0x18, b"99991231235959Z")))
    ),
}
"""What strict readers refuse, by what is wrong with it."""


@pytest.mark.parametrize("name", DEFECTS)
def test_what_vendors_malform_is_read_over_its_original_bytes(name: str) -> None:
    certificate = DEFECTS[name]()
    vouched = verify_ek_certificate(certificate, MIDDLE.certificate, KNOWN, NOW)
    assert vouched.certificate.key == EK
    assert vouched.certificate.signed in certificate


def test_a_key_marked_for_oaep_is_loaded() -> None:
    leaf = MIDDLE.ek(RSA_EK, edit=marked_for_oaep)
    vouched = verify_ek_certificate(leaf, MIDDLE.certificate, KNOWN, NOW)
    assert vouched.certificate.key == RSA_EK
    # However it is marked, it is the same key on a list of revoked ones.
    assert vouched.certificate.key_digest == parse_certificate(MIDDLE.ek(RSA_EK)).key_digest


@pytest.mark.parametrize("changed", ["unsorted-set", "serial-with-leading-zeros"])
def test_a_malformed_certificate_is_no_less_signed(changed: str) -> None:
    """Tolerance ends at the signature: one bit more is refused."""
    leaf = bytearray(DEFECTS[changed]())
    leaf[len(parts(bytes(leaf))[0]) - 30] ^= 1
    assert refusal(bytes(leaf)) in {"signature", "der", "key", "extension"}


@pytest.mark.parametrize("bits", [256, 384, 521])
def test_vendors_sign_with_what_they_like(bits: int) -> None:
    curve = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}[bits]
    root = Authority("root of another curve", key=ecc_key(3, curve))
    for digest in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        verify_ek_certificate(root.ek(EK, digest=digest), b"", roots(root), NOW)


def test_rsa_vendors_sign_in_both_ways() -> None:
    root = Authority("rsa root", key=rsa_key(1))
    for digest in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        verify_ek_certificate(root.ek(EK, digest=digest), b"", roots(root), NOW)
    verify_ek_certificate(root.ek(EK, pss=True), b"", roots(root), NOW)


# What is refused, and why.


def test_truncated_anywhere() -> None:
    for certificate in (LEAF, stored(LEAF).rstrip(b"\xff")):
        reasons = [refusal(certificate[:cut]) for cut in range(len(certificate))]
        assert reasons == ["empty"] + ["truncated"] * (len(certificate) - 1)
    for cut in range(1, len(MIDDLE.certificate)):
        assert refusal(LEAF, MIDDLE.certificate[:cut]) == "truncated"
        # They are a help, which a verifier who has them does not need.
        verify_ek_certificate(LEAF, MIDDLE.certificate[:cut], OWN, NOW)


def test_no_certificates() -> None:
    assert refusal(attribute_certificate(ROOT)) == "attribute-certificate"
    assert refusal(bytes(300)) == "empty"
    assert refusal(b"\xff" * 300) == "empty"
    assert refusal(b"") == "empty"
    assert refusal(LEAF + bytes(LIMIT)) == "size"
    assert refusal(stored(LEAF)[:60]) == "truncated"
    assert refusal(b"\x10\x01\x00") == "truncated"
    assert refusal(b"-----BEGIN CERTIFICATE-----") == "truncated"
    assert refusal(b"\x31" + LEAF[1:]) == "der"
    for sort in ("key", "time"):
        bad = {
            "key": replaced(KEY, tlv(0x30, parts(parts(LEAF)[0])[KEY][4:30])),
            "time": replaced(VALIDITY, tlv(0x30, tlv(0x17, b"261301000000Z") * 2)),
        }
        with pytest.raises(CertificateMalformed):
            parse_certificate(MIDDLE.ek(EK, edit=bad[sort]))


def test_two_signature_algorithms_are_one_too_many() -> None:
    other = tlv(0x30, tlv(6, bytes.fromhex("2a8648ce3d040303")))
    assert refusal(MIDDLE.ek(EK, edit=replaced(INNER, other))) == "der"


def test_weak_keys_are_none() -> None:
    weak = Authority("weak").ek(rsa_key(9, 1024).public_key())
    assert refusal(weak) == "key"


def test_nobody_knows_the_issuer() -> None:
    assert refusal(LEAF, b"") == "issuer"
    assert refusal(LEAF, MIDDLE.certificate, roots(Authority("somebody else"))) == "issuer"
    assert refusal(Authority("stranger").ek(EK), Authority("stranger").certificate) == "issuer"


def test_a_namesake_of_the_root_is_not_the_root() -> None:
    """Same name, another key: sent along with what it signed."""
    namesake = Authority("root", key=ecc_key(99))
    assert refusal(namesake.ek(EK), namesake.certificate) == "signature"


def test_sha1_is_not_accepted() -> None:
    weak = tlv(0x30, tlv(6, bytes.fromhex("2a8648ce3d0401")))  # ecdsa-with-SHA1
    signed = tlv(0x30, b"".join(replaced(INNER, weak)(parts(parts(LEAF)[0]))))
    assert refusal(MIDDLE.sign(signed, weak)) == "algorithm"


@pytest.mark.parametrize("days", [(-20, -1), (1, 20)])
def test_each_certificate_must_be_valid_at_the_time(days: tuple[int, int]) -> None:
    since, until = days
    assert refusal(MIDDLE.ek(EK, since=since, until=until)) == "validity"
    middle = Authority("middle", ROOT, since=since, until=until)
    assert refusal(middle.ek(EK), middle.certificate) == "validity"
    root = Authority("root", since=since, until=until)
    assert refusal(root.ek(EK), b"", roots(root)) == "validity"


def test_the_years_end_is_still_valid() -> None:
    """9999 is what vendors write that set no end."""
    times = tlv(0x30, tlv(0x17, b"491231235959Z") + tlv(0x18, b"99991231235959Z"))
    assert parse_certificate(MIDDLE.ek(EK, edit=replaced(VALIDITY, times))).until == 253402300799
    old = tlv(0x30, tlv(0x17, b"500101000000Z") + tlv(0x17, b"491231235959Z"))
    found = parse_certificate(MIDDLE.ek(EK, edit=replaced(VALIDITY, old)))
    assert found.since < 0 < found.until


def test_not_everybody_may_issue() -> None:
    for made, reason in (
        (Authority("middle", ROOT, ca=False), "authority"),
        (Authority("middle", ROOT, signs=False), "key-usage"),
        (Authority("middle", ROOT, unknown=True), "extension"),
    ):
        assert refusal(made.ek(EK), made.certificate) == reason
    other = Authority("another TPM", MIDDLE, ca=False)
    assert refusal(other.ek(EK), other.certificate + MIDDLE.certificate) == "authority"


def test_no_more_issuers_than_allowed() -> None:
    root = Authority("narrow", length=0)
    middle = Authority("below narrow", root)
    verify_ek_certificate(root.ek(EK), b"", roots(root), NOW)
    assert refusal(middle.ek(EK), middle.certificate, roots(root)) == "path-length"
    chain = [ROOT]
    for number in range(LENGTH - 1):
        chain.append(Authority(f"step {number}", chain[-1]))
    sent = b"".join(authority.certificate for authority in chain[1:])
    assert len(verify_ek_certificate(chain[-2].ek(EK), sent, KNOWN, NOW).path) == LENGTH
    assert refusal(chain[-1].ek(EK), sent) == "issuer"


def test_only_endorsement_keys() -> None:
    assert refusal(MIDDLE.ek(EK, purpose=None)) == "purpose"
    assert refusal(MIDDLE.ek(EK, purpose=SERVER_PURPOSE)) == "purpose"
    assert refusal(MIDDLE.ek(EK, ca=True)) == "authority"
    assert refusal(MIDDLE.ek(EK, unknown=True)) == "extension"


def test_what_is_revoked_counts_no_more() -> None:
    for authority in (ROOT, MIDDLE):
        digest = parse_certificate(authority.certificate).key_digest
        assert refusal(LEAF, known=roots(ROOT, revoked=(digest,))) == "revoked"
    spki = EK.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refusal(LEAF, known=roots(ROOT, revoked=(hashlib.sha256(spki).hexdigest(),))) == "revoked"
    leaf = parse_certificate(LEAF)
    issuer = hashlib.sha256(leaf.issuer).hexdigest()
    # Programs print serial numbers with and without leading zeros.
    for serial in (leaf.serial.hex(), f"000{leaf.serial.hex()}", leaf.serial.hex().lstrip("0")):
        assert refusal(LEAF, known=roots(ROOT, revoked=(f"{serial} {issuer}",))) == "revoked"
    verify_ek_certificate(LEAF, MIDDLE.certificate, roots(ROOT, revoked=("0" * 64, f"7777 {issuer}")), NOW)


def test_a_program_never_becomes_a_chip() -> None:
    program = Authority("swtpm-localca")
    leaf = program.ek(EK, manufacturer=SWTPM)
    assert not verify_ek_certificate(leaf, b"", roots(software=(program,)), NOW).chip
    # Whatever it says of itself, and wherever else its root lies.
    assert not verify_ek_certificate(program.ek(EK), b"", roots(program, software=(program,)), NOW).chip
    for manufacturer in (SWTPM, "id:49424D00", "ID:49424d00", "id:4D534654", None):
        assert refusal(ROOT.ek(EK, manufacturer=manufacturer)) == "manufacturer"
    # Nor by naming a maker of chips before it.
    assert refusal(ROOT.ek(EK, manufacturer=CHIP, another=SWTPM)) == "manufacturer"
    # Nor by an issuer in the middle whom the verifier knows for one of programs.
    assert not verify_ek_certificate(LEAF, b"", roots(ROOT, software=(MIDDLE,)), NOW).chip


def test_a_thicket_of_issuers_is_given_up() -> None:
    """Namesakes, each of which could have issued the others."""
    first = Authority("thicket")
    chain = [Authority("thicket", first).certificate for _ in range(CHAIN)]
    assert len(set(chain)) == CHAIN
    assert refusal(first.ek(EK), b"".join(chain)) == "work"
    assert refusal(LEAF, MIDDLE.certificate * (CHAIN + 1)) == "size"
    # A few are no thicket, and the way out of it is found.
    sent = b"".join(chain[:2]) + MIDDLE.certificate
    assert verify_ek_certificate(LEAF, sent, KNOWN, NOW).path[1].raw == MIDDLE.certificate


def test_certificates_one_after_the_other() -> None:
    both = ROOT.certificate + MIDDLE.certificate
    assert [found.raw for found in parse_several(both + b"\xff" * 9, 2)] == [ROOT.certificate, MIDDLE.certificate]
    assert parse_several(b"", 0) == parse_several(bytes(9), 0) == ()


# The folder of roots.


def test_a_folder_of_roots(tmp_path: Path) -> None:
    from lab.pem import pem

    with pytest.raises(RootsUnusable):
        Roots.load(tmp_path / "missing")
    with pytest.raises(RootsUnusable):
        Roots.load(tmp_path)
    (tmp_path / "README").write_text("not a certificate\n")
    (tmp_path / "middle.der").write_bytes(MIDDLE.certificate)
    with pytest.raises(RootsUnusable):
        Roots.load(tmp_path)
    (tmp_path / "both.pem").write_text("a vendor's words\n" + pem(ROOT.certificate) + pem(MIDDLE.certificate))
    assert verify_ek_certificate(LEAF, b"", Roots.load(tmp_path), NOW).chip
    (tmp_path / "revoked").write_text(f"# stolen\n{parse_certificate(LEAF).key_digest.upper()}  # desk 7\n\n")
    assert refusal(LEAF, b"", Roots.load(tmp_path)) == "revoked"
    (tmp_path / "revoked").write_text("everything\n")
    with pytest.raises(RootsUnusable):
        Roots.load(tmp_path)


def test_chips_and_programs_apart(tmp_path: Path) -> None:
    for name, authority in (("chips", ROOT), ("software", Authority("program"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "root.cer").write_bytes(authority.certificate)
    known = Roots.load(tmp_path)
    assert verify_ek_certificate(LEAF, MIDDLE.certificate, known, NOW).chip
    assert not verify_ek_certificate(Authority("program").ek(EK, manufacturer=SWTPM), b"", known, NOW).chip
    (tmp_path / "chips" / "revoked").write_text(parse_certificate(LEAF).key_digest)
    assert refusal(LEAF, known=Roots.load(tmp_path)) == "revoked"
    (tmp_path / "stray.pem").write_bytes(b"")
    with pytest.raises(RootsUnusable):
        Roots.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----", LEAF[:-9], b"\x30"]
)
def test_a_file_that_cannot_be_read_stops_everything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "root.der").write_bytes(ROOT.certificate)
    (tmp_path / "other.pem").write_bytes(content)
    with pytest.raises(RootsUnusable) as unusable:
        Roots.load(tmp_path)
    assert "other.pem" in unusable.value.cause


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(untrusted: bytes) -> None:
    for read in (parse_certificate, lambda data: parse_several(data, 3)):
        with pytest.raises(CertificateMalformed):
            read(b"\x30" + untrusted)
    for reader in (read_certificates, read_revoked):
        try:
            reader(untrusted)
        except RootsUnusable:
            continue


# The rules of the encoding.

ELEMENTS = st.recursive(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 0x0C, 0x80, 0x17]), st.binary(max_size=300)),
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0]), st.lists(inner, max_size=5)),
    max_leaves=12,
)


def encoded(element: tuple[int, object]) -> bytes:
    tag, body = element
    return tlv(tag, body if isinstance(body, bytes) else b"".join(map(encoded, body)))  # type: ignore[call-overload]


@given(ELEMENTS, st.binary(max_size=10))
def test_elements_are_found_in_their_own_bytes(element: tuple[int, object], behind: bytes) -> None:
    data = encoded(element)
    found = der.first(data + behind)
    assert (found.raw, found.tag) == (data, element[0])
    if not isinstance(element[1], bytes):
        assert [part.raw for part in found.parts()] == list(map(encoded, element[1]))  # type: ignore[call-overload]
    for end in range(len(data)):
        with pytest.raises(CertificateMalformed) as refused:
            der.first(data[:end])
        assert refused.value.reason == "truncated"


@pytest.mark.parametrize(
    "data",
    [
        "1f8101 00", "3080 0000", "308100", "30817f" + "00" * 127, "30820080" + "00" * 128, "3085 0000000001 00",
        "30ff" + "00" * 127,
    ],
)  # fmt: skip
def test_lengths_and_tags_that_are_not_read(data: str) -> None:
    with pytest.raises(CertificateMalformed):
        der.first(bytes.fromhex(data))


def test_a_level_has_no_end_of_parts() -> None:
    der.split(b"\x05\x00" * der.PARTS)
    with pytest.raises(CertificateMalformed):
        der.split(b"\x05\x00" * (der.PARTS + 1))


def test_object_identifiers() -> None:
    assert der.oid("1.2.840.113549.1.1.7").hex() == "2a864886f70d010107"
    assert der.oid("2.23.133.8.1").hex() == "6781050801"


def test_a_certificate_reads_as_another_program_reads_it() -> None:
    from cryptography import x509

    ours, theirs = parse_certificate(LEAF), x509.load_der_x509_certificate(LEAF)
    assert ours.signed == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert ours.key == theirs.public_key()
    assert (ours.issuer, ours.subject) == (theirs.issuer.public_bytes(), theirs.subject.public_bytes())
    assert ours.since == theirs.not_valid_before_utc.timestamp()
    assert ours.until == theirs.not_valid_after_utc.timestamp()
    assert int.from_bytes(ours.serial, "big") == theirs.serial_number
    assert len(ours.extensions) == len(theirs.extensions)
    assert replace(ours) == ours
