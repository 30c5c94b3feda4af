# SPDX-License-Identifier: Apache-2.0
"""Quotes: one good one of each kind, and every way to get one wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.documents import damaged
from lab.paper_tpm import AK_ATTRIBUTES, EccAk, RsaAk, attest, selection
from measure.errors import QuoteRefused
from measure.quote import Quote, verify_quote
from measure.structures import parse_public, parse_signature

NONCE = b"sixteen bytes or more"
VALUES = {"sha256": {12: b"\x12" * 32, 13: b"\x13" * 32}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A quote as a host would send it."""

    attest: bytes
    signature: bytes
    ak: bytes


def made(key: EccAk | RsaAk | None = None, message: bytes | None = None) -> Sample:
    key = key or EccAk()
    message = attest(NONCE, VALUES) if message is None else message
    return Sample(attest=message, signature=key.sign(message), ak=key.public)


def refusal(sample: Sample, nonce: bytes = NONCE) -> str:
    with pytest.raises(QuoteRefused) as refused:
        verify_quote(sample.attest, sample.signature, sample.ak, nonce)
    return refused.value.cause


@pytest.mark.parametrize(
    "key",
    [EccAk(), EccAk(alg="sha384"), EccAk(alg="sha512"), RsaAk(), RsaAk(scheme=0x0016), RsaAk(bits=3072)],
    ids=["ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512", "rsassa", "rsapss", "rsa-3072"],
)
def test_a_good_quote_verifies(key: EccAk | RsaAk) -> None:
    alg = getattr(key, "_alg", "sha256")
    sample = made(key, attest(NONCE, VALUES, alg=alg))
    quote = verify_quote(sample.attest, sample.signature, sample.ak, NONCE)
    assert quote.selection == (("sha256", (12, 13)),)
    assert quote.selects("sha256", 13)
    assert not quote.selects("sha384", 13)
    assert (quote.clock, quote.reset_count, quote.restart_count, quote.safe) == (5000, 3, 1, True)
    assert quote.hash == alg
    quote.verify_values(VALUES)


def test_other_values_or_a_missing_one_are_refused() -> None:
    sample = made()
    quote = verify_quote(sample.attest, sample.signature, sample.ak, NONCE)
    wrong = [
        {"sha256": {12: b"\x12" * 32, 13: b"\x14" * 32}},
        {"sha256": {12: b"\x13" * 32, 13: b"\x12" * 32}},
        {"sha256": {13: b"\x13" * 32}},
        {"sha384": VALUES["sha256"]},
        {},
    ]
    for values in wrong:
        with pytest.raises(QuoteRefused):
            quote.verify_values(values)


def verified(**choices: Any) -> Quote:
    sample = made(message=attest(NONCE, **{"values": VALUES, **choices}))
    return verify_quote(sample.attest, sample.signature, sample.ak, NONCE)


def test_the_selection_must_be_the_one_that_was_asked_for() -> None:
    """Values that are the same give the same digest, whichever PCRs they are of."""
    same = {"sha256": {14: b"\x12" * 32, 15: b"\x13" * 32}}
    right, other = verified(), verified(values=same)
    assert right.pcr_digest == other.pcr_digest
    right.verify_selection({"sha256": [13, 12], "sha384": []})
    other.verify_selection({"sha256": (14, 15)})
    for quote, wanted in (
        (other, {"sha256": (12, 13)}),
        (right, {"sha256": (12,)}),
        (right, {"sha256": (12, 13, 14)}),
        (right, {"sha384": (12, 13)}),
        (right, {"sha256": (12, 13), "sha384": (12,)}),
        (right, {}),
    ):
        with pytest.raises(QuoteRefused, match="other PCRs than were asked for"):
            quote.verify_selection(wanted)


@pytest.mark.parametrize(
    ("counts", "safe", "same_boot"),
    [
        ((5000, 3, 1), 1, True),
        ((5001, 3, 1), 1, True),
        ((6000, 3, 2), 1, True),
        ((6000, 4, 0), 1, False),
        ((5000, 2**32 - 1, 0), 1, False),
        # The power failed, and the clock lost what was not stored yet.
        ((4000, 4, 0), 0, False),
    ],
)
def test_a_later_quote_tells_whether_the_boot_is_the_same(
    counts: tuple[int, int, int], safe: int, same_boot: bool
) -> None:
    quote = verified(counters=counts, safe=safe)
    quote.verify_after(verified())
    assert quote.same_boot(verified()) is same_boot


@pytest.mark.parametrize(
    ("counts", "safe"),
    [
        ((4999, 3, 1), 1),
        ((4999, 3, 1), 0),
        ((6000, 2, 1), 1),
        ((6000, 3, 0), 1),
        ((4999, 4, 0), 1),
        ((4999, 3, 2), 0),
    ],
)
def test_a_quote_of_before_is_refused_after_a_later_one(counts: tuple[int, int, int], safe: int) -> None:
    with pytest.raises(QuoteRefused, match="went back"):
        verified(counters=counts, safe=safe).verify_after(verified())


@pytest.mark.parametrize("nonce", [b"", b"x", b"15 bytes exact."])
def test_a_short_nonce_is_refused_even_if_it_is_answered(nonce: bytes) -> None:
    assert "nonce has" in refusal(made(message=attest(nonce, VALUES)), nonce)


def test_another_nonce_is_refused() -> None:
    assert "does not answer" in refusal(made(), b"another nonce of some length")
    assert "does not answer" in refusal(made(), NONCE + b"\0")


def test_another_key_is_refused() -> None:
    sample = made()
    other = Sample(attest=sample.attest, signature=sample.signature, ak=RsaAk().public)
    assert "scheme" in refusal(other)
    other = Sample(attest=sample.attest, signature=RsaAk().sign(sample.attest), ak=RsaAk(scheme=0x0016).public)
    assert "another scheme" in refusal(other)


@pytest.mark.parametrize("bit", [1, 4, 5, 16, 18])
def test_a_key_that_could_sign_a_forgery_is_refused(bit: int) -> None:
    """Not fixed to the TPM, with a known private half, not restricted, or no signing key."""
    assert "no restricted signing key" in refusal(made(EccAk(attributes=AK_ATTRIBUTES & ~(1 << bit))))


def test_a_key_that_also_decrypts_is_refused() -> None:
    assert "no restricted signing key" in refusal(made(EccAk(attributes=AK_ATTRIBUTES | 1 << 17)))


def test_sha1_is_refused_as_signature_and_as_bank() -> None:
    assert "hash 0x0004" in refusal(made(EccAk(alg="sha1")))
    assert "not accepted" in refusal(made(message=attest(NONCE, {"sha1": {13: bytes(20)}, **VALUES})))


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (attest(NONCE, VALUES, magic=0xFF544348), "another purpose"),
        (attest(NONCE, VALUES, kind=0x8017), "another purpose"),
        (attest(NONCE, VALUES, safe=2), "neither safe"),
        (attest(NONCE, VALUES, chosen=selection({})), "no PCR"),
        (attest(NONCE, VALUES, chosen=selection({"sha256": ()})), "no PCR"),
        (attest(NONCE, VALUES, chosen=b"\0\0\0\x02" + selection(VALUES)[4:] * 2), "twice"),
        (attest(NONCE, VALUES, chosen=b"\0\0\0\x01\x00\x0b\x04\0\0\0\x01"), "not accepted"),
        (attest(NONCE, VALUES, chosen=b"\0\0\0\x01\x00\x0b\x05" + bytes(5)), "too long"),
        (attest(NONCE, VALUES, chosen=b"\xff\xff\xff\xff"), "banks"),
        (attest(NONCE, VALUES) + b"\0", "too many"),
        (attest(NONCE, VALUES)[:-1], "too short"),
        (b"", "too short"),
        (bytes(3000), "more than"),
    ],
)
def test_a_signed_structure_that_is_no_quote_is_refused(message: bytes, cause: str) -> None:
    assert cause in refusal(made(message=message))


@pytest.mark.parametrize("key", [EccAk(), RsaAk()], ids=["ecc", "rsa"])
def test_damage_anywhere_is_refused(key: EccAk | RsaAk) -> None:
    sample = made(key)
    for part in ("attest", "signature", "ak"):
        whole = getattr(sample, part)
        for data in damaged(whole):
            changed = replace(sample, **{part: data})
            try:
                verify_quote(changed.attest, changed.signature, changed.ak, NONCE)
            except QuoteRefused:
                continue
            # Attributes that say nothing about trust may differ; the caller compares the key as a whole.
            assert part == "ak" or data == whole


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    for parse in (parse_public, parse_signature):
        with pytest.raises(QuoteRefused):
            parse(data)
    with pytest.raises(QuoteRefused):
        verify_quote(data, EccAk().sign(data), EccAk().public, NONCE)


@pytest.mark.parametrize(
    "public",
    [
        EccAk().public.replace(b"\x00\x03\x00\x10", b"\x00\x04\x00\x10"),
        EccAk().public[:-1] + bytes([EccAk().public[-1] ^ 1]),
        b"\x00\x25" + EccAk().public[2:],
        EccAk().public[:2] + b"\x00\x04" + EccAk().public[4:],
        RsaAk().public.replace(b"\x08\x00\x00\x00\x00\x00", b"\x04\x00\x00\x00\x00\x00"),
        RsaAk().public.replace(b"\x08\x00\x00\x00\x00\x00", b"\x08\x00\x00\x00\x00\x03"),
        RsaAk().public[:-1] + b"\x00",
        RsaAk().public[:-256] + b"\x00" + RsaAk().public[-255:],
        RsaAk().public[:-256] + bytes(128) + RsaAk().public[-128:],
    ],
    ids=["curve", "no-point", "kind", "sha1-name", "short-rsa", "exponent", "even-modulus", "leading-zero", "half"],
)
def test_a_weak_or_broken_key_is_refused(public: bytes) -> None:
    assert refusal(replace(made(RsaAk()), ak=public))
