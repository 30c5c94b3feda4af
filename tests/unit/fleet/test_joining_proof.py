# SPDX-License-Identifier: Apache-2.0
"""A host that wants in shows three keys of one TPM, freshly; whatever is exchanged of it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from documents.enrolment import EnrolmentOffer, EnrolmentProof, EnrolmentRequest
from documents.errors import VmgateError
from documents.identity import Challenge
from fleet.enrolment import TICKET_SECONDS, make_offer, verify_proof
from lab.paper_host import VENDOR, PaperHost, PaperKey
from lab.vendor import CHIP, Authority
from measure import templates
from measure.certificate import parse_certificate
from measure.ek_roots import Roots
from measure.proof import answer, joined

NOW = 1_795_000_000
SECRET = bytes(32)
TOKEN = "5a" * 32
ROOTS = Roots(software=[parse_certificate(VENDOR.certificate)])


def offered(host: PaperHost, token: str = TOKEN, random: bytes = bytes(16)) -> EnrolmentOffer:
    request = EnrolmentRequest(token=token, identity=host.identity().encode())
    return make_offer(request, ROOTS, SECRET, fleet="fleet", random=random, time=NOW)


def refused(proof: EnrolmentProof, time: int = NOW, secret: bytes = SECRET, roots: Roots = ROOTS) -> str:
    with pytest.raises(VmgateError) as caught:
        verify_proof(proof, roots, secret, time)
    return caught.value.code


def test_a_host_that_proves_itself_is_known() -> None:
    host = PaperHost(1)
    newcomer = verify_proof(host.proof(TOKEN, offered(host)), ROOTS, SECRET, NOW + TICKET_SECONDS - 1)
    assert (newcomer.ak, newcomer.key, newcomer.chip) == (host.ak.public, host.request.public, False)
    # The same TPM is known again, another one is another.
    again = verify_proof(host.proof(TOKEN, offered(host, random=b"r" * 16)), ROOTS, SECRET, NOW)
    other = PaperHost(2)
    assert newcomer.ek == again.ek
    assert newcomer.ek != verify_proof(other.proof(TOKEN, offered(other)), ROOTS, SECRET, NOW).ek


def test_what_is_exchanged_is_refused() -> None:
    host, other = PaperHost(1), PaperHost(2)
    offer = offered(host)
    good = host.proof(TOKEN, offer)
    changes = {
        "another token": {"token": "00" * 32},
        "another ticket": {"ticket": bytes(8) + offer.ticket[8:]},
        "no ticket": {"ticket": b""},
        "another host": {"identity": other.identity().encode()},
        "another key": {"key": other.request.public},
        "the attestation key": {"key": host.ak.public},
        "no statement": {"attest": b""},
        "no signature": {"signature": b""},
        "another's signature": {"signature": other.ak.sign(good.attest)},
        "another statement": {"attest": host.certified(host.request, bytes(32))},
    }
    for change in changes.values():
        assert refused(replace(good, **change)) in {"FL031", "DC001", "ME053"}  # type: ignore[arg-type]
    assert refused(good, NOW + TICKET_SECONDS) == "FL031"
    assert refused(good, NOW - 1) == "FL031"
    assert refused(good, secret=b"x" * 32) == "FL031"


def test_a_challenge_that_was_relayed_to_another_tpm_opens_nothing() -> None:
    host, other = PaperHost(1), PaperHost(2)
    with pytest.raises(AssertionError):
        other.open(Challenge.parse(offered(host).challenge))


def test_a_quote_does_not_stand_for_a_certification() -> None:
    host = PaperHost(1)
    offer = offered(host)
    found = answer(host.open(Challenge.parse(offer.challenge)))
    quoted = host.evidence(joined(found))
    proof = replace(host.proof(TOKEN, offer), attest=quoted.attest, signature=quoted.signature)
    assert refused(proof) == "FL031"


@pytest.mark.parametrize(
    "attributes",
    [
        templates.AK_ATTRIBUTES,
        templates.PURPOSE_ATTRIBUTES,
        templates.REQUEST_ATTRIBUTES & ~0x2,
        templates.REQUEST_ATTRIBUTES & ~0x20,
        templates.REQUEST_ATTRIBUTES | 0x20000,
    ],
)
def test_a_request_key_of_another_kind_is_refused(attributes: int) -> None:
    """One that could be taken out of its TPM, was made outside, or decrypts."""
    host = PaperHost(1)
    head = templates._ecc(attributes, b"", templates._NULL, templates._ECDSA_SHA256, b"", b"").removesuffix(bytes(4))
    host.request = PaperKey.of("odd", head)
    assert refused(host.proof(TOKEN, offered(host))) == "FL031"


def test_who_has_no_vendor_gets_no_question() -> None:
    stranger = PaperHost(3, Authority("stranger", until=20_000))
    with pytest.raises(VmgateError) as caught:
        offered(stranger)
    assert caught.value.code == "ME051"
    # And a program that says it is a chip is one only where its root is.
    chip = PaperHost(4, manufacturer=CHIP)
    assert not verify_proof(chip.proof(TOKEN, offered(chip)), ROOTS, SECRET, NOW).chip
