# SPDX-License-Identifier: Apache-2.0
"""Whether somebody else stands behind a release's reference values: a CoRIM that a verifier trusts names the same ones.

A second word, never one that takes the place of the release's. This module verifies no signature (``corim_reader``
does).
"""

from __future__ import annotations

from collections.abc import Iterable

from documents.host_image import HostImage
from documents.release import Release
from documents.verdict import Finding
from measure.corim import Environment, environment
from measure.findings import finding

PARTS = ("components", "registers", "boot", "files")


def endorsement(platform: Release, image: HostImage | None, sets: Iterable[Environment]) -> Finding:
    """Compare a platform release with the set of values that is told for it; none is as wrong as another one.

    Args:
        platform: the release.
        image: its host image, where it has one. A set that tells nothing of an image is compared without.
        sets: what the CoRIM tells, its signature verified.
    """
    subject, expected = f"corim {platform.channel}/{platform.number}", "the values of the release"
    said = next((one for one in sets if (one.channel, one.number) == (platform.channel, platform.number)), None)
    if said is None or not platform.reference:
        return finding("reference", subject, expected, "no values for this release", good=False)
    own = environment(platform, image if said.boot or said.files else None)
    other = [part for part in PARTS if getattr(own, part) != getattr(said, part)]
    found = f"other {' and '.join(other)}" if other else expected
    return finding("reference", subject, expected, found, good=not other)
