# SPDX-License-Identifier: Apache-2.0
"""The host's key never crosses the bus in the clear, and its terms are run in the order of the decision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import tpm2_pytss as tss

from documents.host_state import SealedKey
from documents.sealed import SealedFloor
from lab.measuring import CHANNEL, PUBLISHER, booted, platform
from lab.tpm import SoftwareTpm
from lab.wire import Wire, wiretapped
from measure import guard
from measure.tpm import Tpm

ONE = platform(1)
KEY = hashlib.sha256(b"the host's key").digest()

CREATE, LOAD, UNSEAL = 0x153, 0x157, 0x15E
START, FLUSH, LOAD_EXTERNAL, VERIFY = 0x176, 0x165, 0x167, 0x177
POLICY_PCR, POLICY_AUTHORIZE, POLICY_COMMAND_CODE, POLICY_NV = 0x17F, 0x16A, 0x16C, 0x149
READ_PUBLIC, NV_READ_PUBLIC = 0x173, 0x169


@pytest.fixture
def tapped(tmp_path: Path) -> Iterator[tuple[Tpm, Wire]]:
    with SoftwareTpm(tmp_path):
        tpm, wire = wiretapped(tmp_path)
        for pcr, event in booted(ONE):
            tpm.extend(pcr, event.encode())
        tpm.extend(7, b"Secure Boot is on")
        tpm.counter()
        yield tpm, wire
        tpm.close()


def terms(tpm: Tpm) -> guard.Terms:
    return guard.Terms(
        channel=CHANNEL,
        epoch=1,
        key=PUBLISHER.public(),
        counter=tpm.counter(),
        local_pcrs=(7,),
        floor=SealedFloor(root=1),
    )


def crossed(wire: Wire) -> bool:
    return any(KEY in data for data in wire.seen)


def test_the_key_is_in_no_command_and_no_answer(tapped: tuple[Tpm, Wire]) -> None:
    tpm, wire = tapped
    wire.seen.clear()
    sealed = guard.seal(tpm, KEY, terms(tpm))
    sealed = guard.seal_ahead(tpm, KEY, sealed, [((7, "11" * 32),)])
    assert wire.codes().count(CREATE) == 2
    assert guard.unseal(tpm, SealedKey.parse(sealed.encode()), ONE.policies) == KEY
    assert UNSEAL in wire.codes()
    assert not crossed(wire)
    assert KEY not in sealed.encode()


@contextmanager
def unsalted() -> Iterator[None]:
    """Sessions without a salt and without encryption, which anything else than the real code would do."""

    @contextmanager
    def session(tpm: Any, kind: Any) -> Iterator[Any]:
        made = tpm._esys.start_auth_session(
            tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, kind, tss.TPMT_SYM_DEF.parse("null"), tss.TPM2_ALG.SHA256
        )
        with tpm._flushed(made):
            tpm._esys.trsess_set_attributes(made, tss.TPMA_SESSION.CONTINUESESSION)
            yield made

    with patch.object(Tpm, "_session", session):
        yield


def test_the_control_is_seen(tapped: tuple[Tpm, Wire]) -> None:
    """The same without the encryption: the listener would have seen it."""
    tpm, wire = tapped
    with unsalted():
        sealed = guard.seal(tpm, KEY, terms(tpm))
        assert crossed(wire)
        wire.seen.clear()
        assert guard.unseal(tpm, sealed, ONE.policies) == KEY
        assert crossed(wire)


def test_the_terms_come_in_their_order(tapped: tuple[Tpm, Wire]) -> None:
    tpm, wire = tapped
    sealed = guard.seal(tpm, KEY, terms(tpm))
    wire.seen.clear()
    guard.unseal(tpm, sealed, ONE.policies)
    # Names of handles and PCR values are read besides.
    found = [code for code in wire.codes() if code not in (READ_PUBLIC, NV_READ_PUBLIC, 0x17E, 0x17A)]
    assert found == [
        LOAD,
        START,
        LOAD_EXTERNAL,
        VERIFY,
        FLUSH,
        POLICY_PCR,
        POLICY_AUTHORIZE,
        POLICY_COMMAND_CODE,
        POLICY_PCR,
        POLICY_NV,
        UNSEAL,
        FLUSH,
        FLUSH,
    ]
    assert tpm.handles() == 0
