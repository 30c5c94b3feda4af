# SPDX-License-Identifier: Apache-2.0
"""Verification of TPM quotes and certified keys, without a TPM and without a TPM library.

Source: TPM 2.0 Library Part 2, clause 10.12 (attestation structures); Part 3, TPM2_Quote and TPM2_Certify.

What a quote must be (the code carries the numbers):
 1. the nonce is at least 16 bytes: a quote without one may be of any time;
 2. the key is a restricted signing key that never left its TPM and decrypts nothing: it signs no outside bytes that
    look like a quote;
 3. the signature is that key's, in its own scheme, with SHA-256 or stronger;
 4. magic and type say that the TPM made this structure, and for this purpose;
 5. it answers the nonce;
 6. it selects at least one PCR, no bank twice, and none of the SHA-1 bank.

Left to the caller: that the key is the expected host's, which PCRs must be selected, and what their values mean.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from measure.pcr import ALGORITHMS, PCRS
from measure.structures import (
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    HASHES,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    Public,
    Reader,
    Signature,
    parse_public,
    parse_signature,
    refused,
    verify_signature,
)
from measure.templates import public_name

MAGIC = 0xFF544347
ATTEST_QUOTE = 0x8018
ATTEST_CERTIFY = 0x8017
NONCE_MINIMUM = 16
"""Bytes of a nonce."""

_KEYS_KEPT = 4_096

BANKS = {number: name for name, number in ALGORITHMS.items() if name != "sha1"}
NEEDED = RESTRICTED | SIGN | FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a verified quote says.

    Attributes:
        selection: (bank, indexes in ascending order), as the digest was made.
        pcr_digest: hash over the selected values, in that order.
        hash: algorithm of the digest.
        clock, reset_count, restart_count, safe: see ``measure.structures.Clock``.
        firmware: vendor's version number.
    """

    selection: tuple[tuple[str, tuple[int, ...]], ...]
    pcr_digest: bytes
    hash: str
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware: int

    def selects(self, bank: str, index: int) -> bool:
        """Whether the quote covers this PCR of this bank."""
        return any(alg == bank and index in indexes for alg, indexes in self.selection)

    def verify_selection(self, wanted: Mapping[str, Collection[int]]) -> None:
        """Require that the quote covers exactly these PCRs, by bank: values that happen to be equal prove no other.

        Raises:
            QuoteRefused: it covers more, fewer or others.
        """
        if {alg: frozenset(indexes) for alg, indexes in self.selection} != {
            alg: frozenset(indexes) for alg, indexes in wanted.items() if indexes
        }:
            raise refused("it covers other PCRs than were asked for")

    def verify_after(self, earlier: Quote) -> None:
        """Require that this quote was made after an earlier one of the same key.

        For keys of the endorsement hierarchy, as vmgate's are: what others quote is shifted by a secret and can wrap.

        Raises:
            QuoteRefused: a counter or the clock went back.
        """
        now, then = ((quote.reset_count, quote.restart_count, quote.clock) for quote in (self, earlier))
        same = self.same_boot(earlier)
        # The clock goes on over resets; after one without an orderly shutdown it can lose up to some minutes, which
        # ``safe`` tells.
        back = now[2] < then[2] and (same or self.safe)
        if now[0] < then[0] or (same and now[1] < then[1]) or back:
            raise refused("a counter or the clock of the TPM went back since the last quote")

    def same_boot(self, earlier: Quote) -> bool:
        """Whether the TPM was not reset since, so that the logs of then are the beginning of those of now."""
        return self.reset_count == earlier.reset_count

    def verify_values(self, values: Mapping[str, Mapping[int, bytes]]) -> None:
        """Require that exactly these values, by bank and index, give the quote's digest.

        Raises:
            QuoteRefused: one that was selected is missing, or the digest is another.
        """
        if not self.fits(values):
            raise refused("the logs do not add up to the quoted PCR values")

    def fits(self, values: Mapping[str, Mapping[int, bytes]]) -> bool:
        """Whether these values, by bank and index, give the quote's digest: for who has several logs to try.

        Raises:
            QuoteRefused: one that was selected is missing.
        """
        message = b""
        for alg, indexes in self.selection:
            for index in indexes:
                if index not in values.get(alg, {}):
                    raise refused(f"it covers PCR {index} of bank {alg}, for which there is no log")
                message += values[alg][index]
        return hmac.compare_digest(hashlib.new(self.hash, message).digest(), self.pcr_digest)


def verify_quote(untrusted_attest: bytes, untrusted_signature: bytes, ak_public: bytes, nonce: bytes) -> Quote:
    """Verify a quote.

    Args:
        untrusted_attest: TPMS_ATTEST as the TPM signed it.
        untrusted_signature: TPMT_SIGNATURE.
        ak_public: TPMT_PUBLIC of the attestation key of the host that was asked.
        nonce: the bytes that the quote has to answer.

    Raises:
        QuoteRefused: with the first of the checks above that failed.
    """
    reader, signature = _open_attest(untrusted_attest, untrusted_signature, ak_public, nonce, ATTEST_QUOTE)
    clock, reset_count, restart_count = reader.number(8), reader.number(4), reader.number(4)
    safe, firmware = reader.number(1), reader.number(8)
    selection = _read_selection(reader)
    pcr_digest = reader.sized(64)
    reader.finish()
    if safe not in (0, 1):
        raise refused("its clock is neither safe nor unsafe")
    return Quote(
        selection=selection,
        pcr_digest=pcr_digest,
        hash=HASHES[signature.hash][0],
        clock=clock,
        reset_count=reset_count,
        restart_count=restart_count,
        safe=bool(safe),
        firmware=firmware,
    )


def verify_certified_key(
    untrusted_attest: bytes, untrusted_signature: bytes, ak_public: bytes, nonce: bytes, key_public: bytes
) -> Public:
    """Verify that the TPM of the attestation key holds a key (TPM2_Certify), and return its parsed public area.

    Args:
        untrusted_attest: TPMS_ATTEST as the TPM signed it.
        untrusted_signature: TPMT_SIGNATURE.
        ak_public: TPMT_PUBLIC of the attestation key.
        nonce: the bytes that the certification has to answer.
        key_public: TPMT_PUBLIC of the key, as its host claims it. Attributes and policy are left to the caller.

    Raises:
        QuoteRefused: checks 1 to 5 above failed, or another key was certified.
    """
    reader, _ = _open_attest(untrusted_attest, untrusted_signature, ak_public, nonce, ATTEST_CERTIFY)
    reader.take(8 + 4 + 4 + 1 + 8)
    name, _qualified = reader.sized(68), reader.sized(68)
    reader.finish()
    if not hmac.compare_digest(name, public_name(key_public)):
        raise refused("another key was certified")
    return parse_public(key_public)


def _open_attest(
    untrusted_attest: bytes, untrusted_signature: bytes, ak_public: bytes, nonce: bytes, kind: int
) -> tuple[Reader, Signature]:
    """Checks 1 to 5; the reader stands at the clock."""
    # 1.
    if len(nonce) < NONCE_MINIMUM:
        raise refused(f"the nonce has {len(nonce)} bytes and {NONCE_MINIMUM} is the least")
    # 2.
    key = _known_key(ak_public)
    if key.attributes & NEEDED != NEEDED or key.attributes & DECRYPT:
        raise refused("the key is no restricted signing key that is fixed to its TPM")
    # 3.
    signature = parse_signature(untrusted_signature)
    reader = Reader(untrusted_attest, "attestation", 2_000)
    verify_signature(key, signature, untrusted_attest)
    # 4.
    if reader.number(4) != MAGIC or reader.number(2) != kind:
        raise refused("the TPM made it for another purpose")
    reader.sized(68)  # the qualified name of the key depends on its hierarchy and says nothing that check 3 did not
    # 5.
    if not hmac.compare_digest(reader.sized(66), nonce):
        raise refused("it does not answer the nonce")
    return reader, signature


@lru_cache(maxsize=_KEYS_KEPT)
def _known_key(ak_public: bytes) -> Public:
    """A host's enrolled key: a verifier meets the same few thousand again and again, and reading one takes 20 us."""
    return parse_public(ak_public)


def _read_selection(reader: Reader) -> tuple[tuple[str, tuple[int, ...]], ...]:
    # 6.
    selection: list[tuple[str, tuple[int, ...]]] = []
    count = reader.number(4)
    if count > 16:
        raise refused(f"it selects {count} banks")
    for _ in range(count):
        bank, size = reader.number(2), reader.number(1)
        if size > 4:
            raise refused("its PCR selection is too long")
        bits = int.from_bytes(reader.take(size), "little")
        indexes = tuple(index for index in range(size * 8) if bits >> index & 1)
        # Some TPMs list every bank; one with nothing selected adds nothing to the digest.
        if not indexes:
            continue
        if bank not in BANKS or indexes[-1] >= PCRS or any(name == BANKS[bank] for name, _ in selection):
            raise refused("it selects a bank or PCR that is not accepted, or one twice")
        selection.append((BANKS[bank], indexes))
    if not selection:
        raise refused("it selects no PCR")
    return tuple(selection)
