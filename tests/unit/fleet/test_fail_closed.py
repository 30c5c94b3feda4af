# SPDX-License-Identifier: Apache-2.0
"""Whatever is absent, empty, unknown, late or broken, the answer is no: one table, and every function failing in turn.

Each row is one thing wrong with a host that would otherwise be affirmed, or with what its verifier was given.
"""

from __future__ import annotations

import base64
import gc
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from documents.errors import Exit, VmgateError
from documents.verdict import VERDICT_SECONDS
from fleet.errors import NonceRefused
from fleet.nonces import NonceBook
from fleet.verifier import Answer, Expected, answer, answer_once
from lab.boot_logs import IMAGE, IPL, MACHINE, Machine
from lab.boot_logs import event as boot_event
from lab.measuring import POLICY, booted, digest, logged, platform, started, with_policy, workload
from lab.paper_tpm import EccAk, RsaAk, attest
from lab.proving import KNOWN, NONCE, NOW, boot, evidence, verified
from measure.appraise import prove
from measure.cel import encode_record, replay
from measure.ear import verify_ear
from measure.errors import ResultRefused
from measure.pcr import VMM_PCR
from measure.verifying import Known

STRICT = replace(POLICY, allow=())
RELEASE = with_policy(platform(1, image=IMAGE), STRICT)
DESK = workload(1, "desk")
EVENTS = verified(MACHINE, [*booted(RELEASE), *boot(1)])
GOOD = evidence(EVENTS, MACHINE)
EXPECTED = Expected(
    releases=(RELEASE.encode(), DESK.encode()), anchor=None, policy=STRICT.encode(), image=IMAGE.encode()
)
CHIP = replace(KNOWN, chip=True)
KEY = ec.derive_private_key(7, ec.SECP256R1())
PRIVATE = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def said(
    sent: bytes = GOOD.encode(), expected: Expected = EXPECTED, known: Known = CHIP, *, signed: bool = False
) -> Answer:
    return answer(sent, expected, known, NOW, build="1", private_pem=PRIVATE if signed else None)


def failed(found: Answer) -> set[str]:
    """The checks that failed, after requiring that everybody hears a no."""
    with pytest.raises(VmgateError) as caught:
        found.judged.require_trusted(NOW)
    assert caught.value.exit == Exit.REFUSED
    assert found.judged.seen is None
    (part,) = found.claims["submods"].values()
    assert part["ear.status"] in ("contraindicated", "none")
    assert not all(2 <= value < 96 for value in part["ear.trustworthiness-vector"].values())
    checks = {finding.check for finding in found.judged.verdict.failures()}
    assert {check for told in part["vmgate.appraisal"]["not-passed"].values() for check in told} >= checks
    return checks


def test_the_host_of_these_stories_is_affirmed() -> None:
    found = said(signed=True)
    found.judged.require_trusted(NOW)
    assert found.judged.verdict.status == "affirming"
    claims = verify_ear(found.token, PUBLIC, NOW, NONCE)
    assert claims == found.claims
    assert claims["exp"] == NOW + VERDICT_SECONDS
    assert claims["ear.verifier-id"] == {"developer": "vmgate project", "build": "vmgate 1"}
    assert base64.urlsafe_b64decode(claims["eat_nonce"] + "=") == NONCE
    part = claims["submods"]["platform"]
    assert part["ear.appraisal-policy-id"] == "platform/1"
    assert set(part["ear.trustworthiness-vector"].values()) == {2}
    assert found.judged.seen is not None


# One thing wrong


def quoted(values: dict[str, dict[int, bytes]], **changes: Any) -> bytes:
    """The good evidence with a quote over other values."""
    message = attest(NONCE, values, **changes)
    return replace(GOOD, attest=message, signature=EccAk().sign(message)).encode()


def log_of(events: list[Any]) -> bytes:
    return b"".join(encode_record(entry) for entry in logged(events))


def unknown_event() -> bytes:
    """An event of a kind that is not known, by a host that did extend it."""
    line = encode_record(logged(started_only())[0])
    return evidence(EVENTS, MACHINE, cel=GOOD.cel + line.replace(b'"vm-start"', b'"vm-dream"')).encode()


def started_only() -> list[Any]:
    return [started("desk", 1)]


def bank_without_digests() -> bytes:
    """A log whose records lack the digest of the bank that counts."""
    records = [replace(r, digests={"sha384": r.digests["sha384"]}) for r in logged(EVENTS)]
    return replace(GOOD, cel=b"".join(encode_record(entry) for entry in records)).encode()


def bank_not_extended() -> bytes:
    """A host whose SHA-384 bank was left at its start, quoted beside the other."""
    values = {**MACHINE.pcrs(), **replay(logged(EVENTS), "sha256")}
    return quoted({"sha256": values, "sha384": {12: bytes(48), 13: bytes(48)}})


BOOTED = {**MACHINE.pcrs(), **replay(logged(EVENTS), "sha256")}
EXTRA_BOOT = replace(MACHINE, more=(boot_event(11, IPL, b"what nobody knows"),))
SENT: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "nothing at all": (lambda: b"", {"evidence-form"}),
    "no document": (lambda: b"{}", {"evidence-form"}),
    "a release for evidence": (RELEASE.encode, {"evidence-form"}),
    "an empty selection": (lambda: quoted({}, chosen=b"\0\0\0\0"), {"quote"}),
    "a selection without our PCRs": (lambda: quoted({"sha256": {i: BOOTED[i] for i in range(12)}}), {"quote"}),
    "a boot log that the quote leaves out": (
        lambda: quoted({"sha256": {i: BOOTED[i] for i in (12, 13)}}), {"evidence-logs"}
    ),
    "an unknown event": (unknown_event, {"evidence-logs"}),
    "an event where it does not belong": (
        lambda: evidence([*EVENTS, (VMM_PCR, started("desk", 1)[1])], MACHINE).encode(),
        {"component-order", "component-unknown", "event"},
    ),
    "an unknown event of the boot": (
        lambda: evidence(EVENTS, EXTRA_BOOT).encode(),
        {"assurance-level", "boot-log", "boot-phase"},
    ),
    "a log longer than the quote says": (
        lambda: evidence(EVENTS, MACHINE, told=[*EVENTS, started("desk", 1)]).encode(),
        {"evidence-logs"},
    ),
    "a log shorter than the quote says": (
        lambda: evidence(EVENTS, MACHINE, told=EVENTS[:-1]).encode(), {"evidence-logs"}
    ),
    "an empty log": (lambda: replace(GOOD, cel=b"").encode(), {"evidence-logs"}),
    "a log that is not there": (
        lambda: evidence([], MACHINE).encode(),
        {"component-digest", "component-order", "host-local", "log", "repository-identity"},
    ),
    "no boot log where the quote covers it": (lambda: replace(GOOD, boot_log=b"", ima=b"").encode(), {"quote"}),
    "a host that tells nothing of its boot": (lambda: evidence(EVENTS).encode(), {"assurance-level", "boot-log"}),
    "a boot log of another boot": (
        lambda: replace(GOOD, boot_log=replace(MACHINE, secure_boot=b"\0").boot_log()).encode(),
        {"evidence-logs"},
    ),
    "a bank without digests": (bank_without_digests, {"quote"}),
    "a bank that was not extended": (bank_not_extended, {"evidence-logs"}),
    "the signature of another quote": (
        lambda: replace(GOOD, signature=evidence(EVENTS[:-1], MACHINE).signature).encode(),
        {"quote"},
    ),
    "another key": (lambda: replace(GOOD, ak=RsaAk().public).encode(), {"attestation-key"}),
    "the answer to another nonce": (
        lambda: evidence(EVENTS, MACHINE, nonce=b"another nonce of some length").encode(),
        {"quote"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", SENT)
def test_evidence_with_one_thing_wrong_is_refused(wrong: str) -> None:
    make, checks = SENT[wrong]
    assert failed(said(make())) == checks


@pytest.mark.parametrize("part", ["attest", "signature", "ak", "boot_log", "ima", "cel"])
def test_no_byte_of_the_evidence_can_be_changed_for_a_yes(part: str) -> None:
    """Some bytes of the boot log and of the list are covered by no digest: then the verdict is the very same."""
    data: bytes = getattr(GOOD, part)
    affirmed = said().judged.verdict
    for at in range(0, len(data), 1 + len(data) // 40):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        verdict = said(replace(GOOD, **{part: changed}).encode()).judged.verdict
        assert verdict.status == "contraindicated" or (part in ("boot_log", "ima") and verdict == affirmed)
        shorter = said(replace(GOOD, **{part: data[:at]}).encode()).judged.verdict
        assert shorter.status == "contraindicated", "cut off"


def test_a_boot_log_alone_proves_nothing_about_the_programs_that_ran() -> None:
    """A host that sends no IMA list and leaves PCR 10 out of its quote."""
    values = {index: value for index, value in BOOTED.items() if index != 10}
    sent = replace(GOOD, ima=b"").encode()
    assert failed(said(sent)) == {"evidence-logs"}
    message = attest(NONCE, {"sha256": values})
    left_out = replace(GOOD, ima=b"", attest=message, signature=EccAk().sign(message))
    claims, _ = prove(left_out, CHIP.ak, NONCE)
    assert claims.boot is not None
    assert set(claims.boot.pcrs) == set(range(12)) - {10}
    assert failed(said(left_out.encode())) == {"assurance-level", "ima-list"}
    assert failed(said(quoted({"sha256": values}))) == {"evidence-logs"}


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_evidence(untrusted: bytes) -> None:
    assert failed(said(untrusted)) == {"evidence-form"}


def others(**changes: Any) -> Expected:
    return replace(EXPECTED, **changes)


GENEROUS = replace(STRICT, allow=("AllowEmulation", "AllowSelfMeasured", "AllowSoftwareTpm"))
EMPTY = replace(POLICY, allow=(), max_vcpus=1, max_memory_mib=64)
GIVEN: dict[str, tuple[Expected, Known, set[str]]] = {
    "no policy": (others(policy=None), CHIP, {"reference"}),
    "a policy that says nothing": (others(policy=EMPTY.encode()), CHIP, {"reference"}),
    "another policy": (others(policy=GENEROUS.encode()), CHIP, {"reference"}),
    "no host image": (others(image=None), CHIP, {"assurance-level", "reference"}),
    "an expired reference set": (others(expires=NOW), CHIP, {"reference-expiry"}),
    "a software TPM": (EXPECTED, KNOWN, {"assurance-level"}),
    "no nonce": (EXPECTED, replace(CHIP, nonce=b""), {"quote"}),
    "a short nonce": (EXPECTED, replace(CHIP, nonce=NONCE[:15]), {"quote"}),
    "the key of another host": (EXPECTED, replace(CHIP, ak=RsaAk().public), {"attestation-key"}),
    "no key": (EXPECTED, replace(CHIP, ak=b""), {"attestation-key"}),
}


@pytest.mark.parametrize("wrong", GIVEN)
def test_a_verifier_that_was_given_one_thing_wrong_says_no(wrong: str) -> None:
    expected, known, checks = GIVEN[wrong]
    assert failed(said(expected=expected, known=known)) == checks


@pytest.mark.parametrize(
    "expected",
    [
        others(releases=()),
        others(releases=(DESK.encode(),)),
        others(releases=(RELEASE.encode(), RELEASE.encode())),
        others(releases=(RELEASE.encode(), replace(RELEASE, channel="another", number=2).encode())),
        others(releases=(b"",)),
        others(policy=b""),
        others(policy=b"{}"),
        others(image=b""),
        others(anchor=b""),
    ],
)
def test_a_verifier_that_cannot_judge_does_not(expected: Expected) -> None:
    with pytest.raises(VmgateError) as caught:
        said(expected=expected)
    assert caught.value.exit == Exit.REFUSED


@pytest.mark.parametrize("key", [b"", b"no key", PUBLIC])
def test_a_key_that_signs_nothing_gives_no_unsigned_result(key: bytes) -> None:
    with pytest.raises(VmgateError) as caught:
        answer(GOOD.encode(), EXPECTED, CHIP, NOW, build="1", private_pem=key)
    assert caught.value.exit == Exit.REFUSED


def test_a_stale_verdict_or_result_is_no_yes() -> None:
    found = said(signed=True)
    for now in (NOW - 1, NOW + VERDICT_SECONDS):
        with pytest.raises(VmgateError, match="of another time"):
            found.judged.require_trusted(now)
        with pytest.raises(ResultRefused):
            verify_ear(found.token, PUBLIC, now, NONCE)
    short = said(expected=others(expires=NOW + 5))
    short.judged.require_trusted(NOW + 4)
    with pytest.raises(VmgateError, match="of another time"):
        short.judged.require_trusted(NOW + 5)
    assert short.claims["exp"] == NOW + 5


def test_evidence_with_more_than_the_policy_asks_for_is_refused() -> None:
    """The host sends its boot log where its release has no host image to compare it with, or the policy says no."""
    for policy, image, sent in (
        (STRICT, None, ["boot_log", "ima"]),
        (replace(STRICT, collect=()), IMAGE, ["boot_log", "ima"]),
        (replace(STRICT, collect=("boot_log",)), IMAGE, ["ima"]),
        (replace(STRICT, collect=("boot_log", "ima")), IMAGE, []),
    ):
        release = with_policy(platform(1, image=image), policy)
        expected = Expected(
            releases=(release.encode(),), anchor=None, policy=policy.encode(), image=image.encode() if image else None
        )
        found = said(evidence(verified(MACHINE, booted(release)), MACHINE).encode(), expected)
        (asked,) = [f for f in found.judged.verdict.findings if f.check == "evidence-asked"]
        if sent:
            assert "evidence-asked" in failed(found)
            assert asked.found == " and ".join(sent)
        else:
            assert found.judged.verdict.status == "affirming"


# What the host showed before

FIRST = said().judged.seen
assert FIRST is not None
NEXT = b"the nonce of the next question"
BEFORE = replace(CHIP, nonce=NEXT, before=FIRST)
STARTED = [*EVENTS, started("desk", 1)]
REBOOTED = verified(MACHINE, [*booted(RELEASE), *boot(2)])
OTHERWISE = replace(MACHINE, more=(boot_event(1, IPL, b"another order of the disks"),))


def later(events: list[Any], machine: Machine = MACHINE, counters: tuple[int, int, int] = (5000, 3, 1)) -> bytes:
    """What the host sends when it is asked again."""
    return evidence(events, machine, nonce=NEXT, counters=counters).encode()


LATER: dict[str, tuple[bytes, set[str]]] = {
    "nothing new": (later(EVENTS), set()),
    "a log that grew": (later(STARTED, counters=(6000, 3, 1)), set()),
    "sleep and waking": (later(EVENTS, counters=(6000, 3, 2)), set()),
    "another boot": (later(REBOOTED, counters=(7000, 4, 0)), set()),
    "a reset, and the old log told once more": (later(EVENTS, counters=(7000, 4, 0)), {"earlier-log"}),
    "a reset, and the old log with more behind it": (later(STARTED, counters=(7000, 4, 0)), {"earlier-log"}),
    "a reset that was undone": (later(EVENTS, counters=(5000, 2, 9)), {"reset-count"}),
    "a restart that was undone": (later(EVENTS, counters=(5000, 3, 0)), {"reset-count"}),
    "a clock that went back": (later(EVENTS, counters=(4999, 3, 1)), {"reset-count"}),
    "another log of the same boot": (later(REBOOTED), {"earlier-log"}),
    "a shorter log of the same boot": (later(EVENTS[:-1]), {"earlier-log"}),
    "another boot log of the same boot": (later(EVENTS, OTHERWISE), {"earlier-log"}),
}


@pytest.mark.parametrize("case", LATER)
def test_evidence_must_follow_from_what_the_host_showed_before(case: str) -> None:
    sent, checks = LATER[case]
    found = said(sent, known=BEFORE)
    if checks:
        assert failed(found) == checks
    else:
        assert found.judged.verdict.status == "affirming"
        assert found.judged.seen is not None


def test_evidence_that_was_good_once_is_not_good_twice() -> None:
    assert failed(said(known=replace(BEFORE, nonce=NONCE))) == {"nonce"}


def test_what_was_kept_of_another_host_does_not_serve() -> None:
    assert FIRST is not None
    other = replace(FIRST, ak=digest("another key"))
    assert failed(said(later(EVENTS), known=replace(BEFORE, before=other))) == {"attestation-key"}


def test_a_nonce_that_was_answered_is_refused_before_anything_is_looked_at() -> None:
    book = NonceBook()
    nonce = book.issue("host", NOW)
    sent = evidence(EVENTS, MACHINE, nonce=nonce).encode()
    known = replace(CHIP, nonce=nonce)
    answer_once(book, "host", sent, EXPECTED, known, NOW, build="1").judged.require_trusted(NOW)
    for host, now in (("host", NOW), ("another", NOW), ("host", NOW + 300)):
        with pytest.raises(NonceRefused) as caught:
            answer_once(book, host, sent, EXPECTED, known, now, build="1")
        assert caught.value.exit == Exit.REFUSED
    with pytest.raises(NonceRefused):
        answer_once(book, "host", GOOD.encode(), EXPECTED, CHIP, NOW, build="1")


# An exception anywhere

PACKAGES = ("content", "documents", "fleet", "keys", "measure")
# Where they were imported from: the tests see the installed wheel, and a developer the checkout.
OURS = tuple(f"{path}/" for name in PACKAGES for path in importlib.import_module(name).__path__)


class Broken(Exception):
    """What nobody foresaw."""


@contextmanager
def watched(see: Callable[[CodeType], None]) -> Iterator[None]:
    """Call ``see`` as each of our functions is entered."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            see(frame.f_code)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def functions_of_the_path() -> list[CodeType]:
    seen: dict[CodeType, None] = {}
    sent = later(EVENTS)
    with watched(seen.setdefault):
        said(sent, known=BEFORE, signed=True)
    return list(seen)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A generator that the collector ends within a run would meet the failure in place of the function's caller."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", [Broken, ValueError, MemoryError])
def test_every_function_of_the_path_may_fail_and_the_answer_is_no(kind: type[Exception]) -> None:
    path, sent = functions_of_the_path(), later(EVENTS)
    names = {code.co_name for code in path}
    assert {"judge", "prove", "appraise", "verify_quote", "explain", "trust_vector", "sign_ear"} <= names
    guards = {"answer", "answer_prepared", "_guarded"}
    tried = [code for code in path if code.co_name not in guards]
    assert len(tried) > 150
    for number, target in enumerate(tried):
        if number % 50 == 0:
            gc.collect()

        def fail(code: CodeType, target: CodeType = target) -> None:
            if code is target:
                raise kind(target.co_name)

        found: Answer | None = None
        error: Exception | None = None
        try:
            with watched(fail):
                found = said(sent, known=BEFORE, signed=True)
        except VmgateError as refusal:
            error = refusal
        if found is not None:
            for told in found.claims.get("submods", {}).values():
                assert told["ear.status"] in ("none", "contraindicated"), target.co_qualname
            with pytest.raises(VmgateError) as caught:
                found.judged.require_trusted(NOW)
            error = caught.value
        assert isinstance(error, VmgateError)
        assert error.exit == Exit.REFUSED, target


def test_the_command_ends_with_exit_5_and_one_line_whatever_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fleet.verifier
    from vmgate.main import run

    files = {
        "evidence": GOOD.encode(), "platform": RELEASE.encode(), "policy": STRICT.encode(), "image": IMAGE.encode(),
        "ak": CHIP.ak,
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    words = [
        "attest", "verify", str(tmp_path / "evidence"), "--release", str(tmp_path / "platform"), "--policy",
        str(tmp_path / "policy"), "--host-image", str(tmp_path / "image"), "--ak", str(tmp_path / "ak"), "--nonce",
        NONCE.hex(), "--chip", "--seen", str(tmp_path / "seen"),
    ]  # fmt: skip
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["submods"]["platform"]["ear.status"] == "affirming"
    kept = (tmp_path / "seen").read_bytes()
    assert run(words) == Exit.REFUSED, "the same nonce"
    assert "nonce of evidence" in capsys.readouterr().err

    def broken(*_: object, **__: object) -> None:
        raise Broken

    for name in ("judge", "ear_claims"):
        with monkeypatch.context() as patch:
            patch.setattr(fleet.verifier, name, broken)
            assert run(words) == Exit.REFUSED
        out, err = capsys.readouterr()
        assert err.startswith("error[FL010]: the host is not trusted; ")
        assert len(err.splitlines()) == 1
        if name == "judge":
            assert json.loads(out)["submods"]["platform"]["ear.trustworthiness-vector"] == {"executables": -1}
        else:
            assert out == ""
    words.remove("--chip")
    assert run(words) == Exit.REFUSED
    assert (tmp_path / "seen").read_bytes() == kept
