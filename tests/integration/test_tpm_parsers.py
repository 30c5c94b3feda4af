# SPDX-License-Identifier: Apache-2.0
"""Our readers beside those of others: quotes and keys beside the TPM library, boot logs beside tpm2_eventlog."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tpm2_pytss as tss
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from documents.evidence import Evidence
from lab import event_logs
from lab.tpm import SoftwareTpm
from measure import bootlog
from measure.errors import QuoteRefused
from measure.quote import verify_quote
from measure.structures import parse_public, parse_signature
from measure.templates import public_name

NUMBERS = {0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
BANKS = tuple(NUMBERS.values())
KEYS = (
    "ecc:ecdsa-sha256:null", "ecc:ecdsa-sha384:null", "ecc:ecdsa-sha512:null",
    "rsa2048:rsassa-sha256:null", "rsa2048:rsassa-sha384:null", "rsa2048:rsapss-sha256:null",
    "rsa2048:rsapss-sha512:null", "rsa3072:rsassa-sha256:null",
)  # fmt: skip
ATTRIBUTES = (
    tss.TPMA_OBJECT.RESTRICTED | tss.TPMA_OBJECT.SIGN_ENCRYPT | tss.TPMA_OBJECT.FIXEDTPM
    | tss.TPMA_OBJECT.FIXEDPARENT | tss.TPMA_OBJECT.SENSITIVEDATAORIGIN | tss.TPMA_OBJECT.USERWITHAUTH
)  # fmt: skip
RIG = Path(__file__).parents[1] / "vectors/rig/evidence.json"


@pytest.fixture(scope="module")
def esys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with SoftwareTpm(tmp_path_factory.mktemp("tpm")) as chip, tss.ESAPI(chip.tcti) as found:
        yield found


def selected(dice: random.Random) -> dict[str, list[int]]:
    """One to three banks, each with one to eight PCRs."""
    banks = dice.sample(BANKS, dice.randint(1, 3))
    return {alg: sorted(dice.sample(range(24), dice.randint(1, 8))) for alg in banks}


def held(esys: Any, chosen: dict[str, list[int]]) -> dict[str, dict[int, bytes]]:
    return {
        alg: {index: bytes(esys.pcr_read(f"{alg}:{index}")[2][0]) for index in indexes}
        for alg, indexes in chosen.items()
    }


@pytest.mark.parametrize("kind", KEYS)
def test_a_quote_says_what_the_library_reads_in_it(esys: Any, kind: str) -> None:
    dice = random.Random(kind)
    template = tss.TPM2B_PUBLIC.parse(alg=kind, objectAttributes=ATTRIBUTES, nameAlg="sha256")
    handle, created = esys.create_primary(None, template, tss.ESYS_TR.ENDORSEMENT)[:2]
    try:
        public = created.publicArea.marshal()
        assert public_name(public) == bytes(created.get_name())
        pem = parse_public(public).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert pem == created.publicArea.to_pem()
        for _ in range(8):
            chosen, nonce = selected(dice), dice.randbytes(dice.randint(16, 64 if "512" in kind else 32))
            esys.pcr_event(tss.ESYS_TR(dice.randint(0, 15)), dice.randbytes(20))
            attest, signed = esys.quote(
                handle, "+".join(f"{a}:{','.join(map(str, i))}" for a, i in chosen.items()), nonce
            )
            check(esys, public, bytes(attest), signed, nonce, chosen)
    finally:
        esys.flush_context(handle)


def check(esys: Any, public: bytes, attest: bytes, signed: Any, nonce: bytes, chosen: dict[str, list[int]]) -> None:
    signature = signed.marshal()
    quote = verify_quote(attest, signature, public, nonce)
    theirs, used = tss.TPMS_ATTEST.unmarshal(attest)
    assert used == len(attest)
    quoted = theirs.attested.quote
    assert quote.pcr_digest == bytes(quoted.pcrDigest)
    assert dict(quote.selection) == {
        NUMBERS[int(each.hash)]: tuple(
            index for index in range(24) if bytes(each.pcrSelect)[index // 8] >> index % 8 & 1
        )
        for each in quoted.pcrSelect
    }
    clock = theirs.clockInfo
    assert (quote.clock, quote.reset_count, quote.restart_count, quote.safe, quote.firmware) == (
        clock.clock, clock.resetCount, clock.restartCount, bool(clock.safe), theirs.firmwareVersion,
    )  # fmt: skip
    quote.verify_selection(chosen)
    quote.verify_values(held(esys, chosen))
    ours = parse_signature(signature)
    assert (ours.scheme, ours.hash) == (signed.sigAlg, signed.signature.any.hashAlg)


@pytest.mark.parametrize("kind", ["ecc:ecdsa-sha256:null", "rsa2048:rsapss-sha256:null"])
def test_what_we_accept_of_a_damaged_quote_the_library_accepts_too(esys: Any, kind: str) -> None:
    """The signature of real quotes is checked by both, so nothing may be left; and nothing may break us."""
    dice = random.Random(7)
    template = tss.TPM2B_PUBLIC.parse(alg=kind, objectAttributes=ATTRIBUTES, nameAlg="sha256")
    handle, created = esys.create_primary(None, template, tss.ESYS_TR.ENDORSEMENT)[:2]
    nonce = os.urandom(32)
    attest, signed = (part for part in esys.quote(handle, "sha256:0,7,12,13", nonce))
    esys.flush_context(handle)
    public = created.publicArea.marshal()
    good = bytes(attest), signed.marshal()
    verify_quote(*good, public, nonce)
    for _ in range(300):
        which, whole = (side := dice.randrange(2)), bytearray(good[side])
        whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        parts = [*good]
        parts[which] = bytes(whole)
        with pytest.raises(QuoteRefused):
            verify_quote(parts[0], parts[1], public, nonce)


# Boot logs. tpm2_eventlog 5.4 extends EV_NO_ACTION and knows no start of PCR 0: it is asked about logs without these.


def theirs(log: bytes, tmp_path: Path) -> dict[str, dict[int, bytes]]:
    (tmp_path / "log").write_bytes(log)
    run = subprocess.run(["tpm2_eventlog", str(tmp_path / "log")], capture_output=True, check=True, timeout=60)
    # Its numbers are hexadecimal with 0x, which YAML reads as integers: the text of each value is kept.
    pcrs = yaml.load(run.stdout, Loader=yaml.BaseLoader)["pcrs"]
    return {
        alg: {int(index): int(value, 16).to_bytes(event_logs.SIZE[alg], "big") for index, value in values.items()}
        for alg, values in pcrs.items()
    }


def test_a_captured_log_replays_as_another_program_replays_it(tmp_path: Path) -> None:
    log = Evidence.parse(RIG.read_bytes()).boot_log
    assert bootlog.replay(bootlog.parse_boot_log(log)) == theirs(log, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_random_logs_replay_as_another_program_replays_them(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    banks = tuple(dice.sample(list(event_logs.SIZE), dice.randint(1, 4)))
    events = [
        event_logs.measured(dice.randrange(16), event_logs.S_CRTM_VERSION, dice.randbytes(dice.randint(2, 60)), banks)
        for _ in range(dice.randint(1, 30))
    ]
    log = event_logs.header(banks) + b"".join(events)
    assert bootlog.replay(bootlog.parse_boot_log(log)) == theirs(log, tmp_path)
