# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of the wheel and of what it was resolved to: CycloneDX 1.6, the same bytes for the same input.

Source: ECMA-424; written by cyclonedx-python-lib. It names distributions, and knows nothing of their weaknesses.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from release.resolved import Distribution

NAMESPACE = uuid.UUID("3d6f6c1e-9b0a-5f57-9d3b-0c6a1f3c7b52")
"""Of serial numbers, which are made from the wheel's digest."""


def bill_of_materials(distributions: tuple[Distribution, ...], subject: str, made: datetime) -> bytes:
    """The bill of materials.

    Args:
        distributions: all of them, the subject too.
        subject: name of the one that it is about.
        made: the time of the source, not of the build.
    """
    components = {one.name: _component(one, is_subject=one.name == subject) for one in distributions}
    whole = next(one for one in distributions if one.name == subject)
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, whole.sha256))
    bom.metadata.timestamp = made
    bom.metadata.component = components[subject]
    for name, component in components.items():
        if name != subject:
            bom.components.add(component)
    for one in distributions:
        bom.register_dependency(components[one.name], [components[name] for name in one.needs])
    return (JsonV1Dot6(bom).output_as_string(indent=1) + "\n").encode()


def _component(one: Distribution, *, is_subject: bool) -> Component:
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.APPLICATION if is_subject else ComponentType.LIBRARY,
        bom_ref=one.purl,
        purl=PackageURL("pypi", None, one.name, one.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)],
        licenses=[LicenseFactory().make_from_string(one.licence)] if one.licence else None,
    )
