# SPDX-License-Identifier: Apache-2.0
"""A verifier that prepares a release once judges each host as one that reads all of it for each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from documents.errors import DocumentError
from documents.evidence import Evidence
from fleet.errors import VerifierUnready
from fleet.verifier import Expected, verify_evidence, verify_prepared
from lab.attested import NONCE, Attested, attested, vector
from lab.paper_tpm import EccAk
from measure.errors import QuoteRefused
from measure.known_image import KnownImage

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def host() -> Attested:
    return attested(60, 200, EccAk())


def test_a_host_of_a_prepared_release_is_affirming(host: Attested) -> None:
    verdict = verify_prepared(
        host.evidence.encode(), host.expected.references(), ak=host.ak, nonce=NONCE, time=NOW, chip=True
    )
    assert (verdict.level, verdict.status) == ("L2", "affirming")


def test_prepared_or_not_the_verdict_is_the_same(host: Attested) -> None:
    """For good evidence and bad, and the second time as the first: what is kept of a good host helps no bad one."""
    references = host.expected.references()
    known = {file.path: file for file in host.image.files}
    path = host.entries[30][0]
    missing = replace(host.image, files=tuple(file for name, file in known.items() if name != path))
    changed = replace(
        host.image,
        files=tuple(replace(file, sha256="00" * 32) if name == path else file for name, file in known.items()),
    )
    for image in (host.image, missing, changed):
        expected = replace(host.expected, image=image.encode())
        prepared = references if image is host.image else expected.references()
        for _ in range(2):
            data = host.evidence.encode()
            given = verify_evidence(data, expected, ak=host.ak, nonce=NONCE, time=NOW, chip=True)
            assert verify_prepared(data, prepared, ak=host.ak, nonce=NONCE, time=NOW, chip=True) == given
            assert (given.status == "affirming") == (image is host.image)


def test_a_quote_is_of_the_key_that_is_asked_for_each_time(host: Attested) -> None:
    """A key that is kept in its parsed form is still the host's own, and no other's."""
    (reference,) = host.expected.references()
    other = EccAk(alg="sha384")
    for _ in range(2):
        verify_prepared(host.evidence.encode(), (reference,), ak=host.ak, nonce=NONCE, time=NOW, chip=True)
        with pytest.raises(QuoteRefused):
            verify_prepared(host.evidence.encode(), (reference,), ak=other.public, nonce=NONCE, time=NOW, chip=True)
        forged = replace(host.evidence, ak=other.public).encode()
        with pytest.raises(QuoteRefused):
            verify_prepared(forged, (reference,), ak=other.public, nonce=NONCE, time=NOW, chip=True)


def test_what_is_known_belongs_to_its_image(host: Attested) -> None:
    (reference,) = host.expected.references()
    other = replace(host.image, firmware=())
    with pytest.raises(ValueError, match="another host image"):
        replace(reference, image=other)
    assert replace(reference, image=other, known=KnownImage(other)).image is other


def test_what_cannot_be_prepared(host: Attested) -> None:
    releases = host.expected.releases
    for wrong in ((), releases[1:], (releases[0], releases[0])):
        with pytest.raises(VerifierUnready):
            replace(host.expected, releases=wrong).references()
    with pytest.raises(DocumentError):
        replace(host.expected, image=vector("policy.json")).references()


def test_the_captured_host_is_still_the_one_it_was() -> None:
    """The evidence that is made longer here is the captured host's but for its list, its image and its quote."""
    captured = Evidence.parse(vector("evidence.json"))
    made = attested(10, 100, EccAk())
    assert (made.evidence.boot_log, made.evidence.cel) == (captured.boot_log, captured.cel)
    assert isinstance(made.expected, Expected)
    assert len(made.entries) == 10
