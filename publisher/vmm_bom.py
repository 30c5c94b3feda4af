# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a VMM image: CycloneDX 1.6 in JSON, the same bytes for the same image.

Source: CycloneDX 1.6 (ECMA-424), its JSON schema; the purl specification, type ``deb``. It has no time and no random
serial number. Pure. This module names packages, and no files and no vulnerabilities.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from publisher.closure import Package
from publisher.copyright import SPDX, licences
from publisher.vmm import Source, VmmImage

NAMESPACE: Final = uuid.UUID("6a3f0c0e-5b61-5e0b-8b6f-7a1d0c9f4e11")
"""Of serial numbers, which are made from the image's digest."""

SUBJECT: Final = "vmgate-vmm"


def bill_of_materials(image: VmmImage) -> bytes:
    """The bill of materials of an image."""
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, image.measured.fsverity)}",
        "version": 1,
        "metadata": {"component": _subject(image)},
        "components": [_component(source) for source in image.sources],
        "dependencies": list(_dependencies(image)),
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def purl(package: Package) -> str:
    """The package's URL."""
    name, version = quote(package.name), quote(package.version, safe=":")
    return f"pkg:deb/debian/{name}@{version}?arch={package.architecture}"


def _subject(image: VmmImage) -> Mapping[str, Any]:
    properties = {
        "vmgate:fsverity": image.measured.fsverity,
        "vmgate:length": str(image.measured.length),
        "vmgate:verity-root-hash": image.root_hash,
        "vmgate:verity-offset": str(image.tree_offset),
        **{f"vmgate:left-out:{name}": reason for name, reason in image.closure.left_out},
    }
    return {
        "type": "platform",
        "bom-ref": SUBJECT,
        "name": SUBJECT,
        "version": image.measured.fsverity,
        "hashes": [{"alg": "SHA-256", "content": image.sha256}],
        "properties": [{"name": name, "value": value} for name, value in properties.items()],
    }


def _component(source: Source) -> Mapping[str, Any]:
    package = source.package
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.name,
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
        "hashes": [{"alg": "SHA-256", "content": source.sha256}],
        "properties": [{"name": "vmgate:source-package", "value": package.source}],
    }
    named = [_licence(name) for name in licences(source.copyright)]
    return {**component, "licenses": named} if named else component


def _licence(name: str) -> Mapping[str, Any]:
    known = {"id": SPDX[name]} if name in SPDX else {"name": name}
    return {"license": {**known, "acknowledgement": "declared"}}


def _dependencies(image: VmmImage) -> Iterator[Mapping[str, Any]]:
    yield {"ref": SUBJECT, "dependsOn": [name for name, _ in image.closure.uses]}
    for name, uses in image.closure.uses:
        yield {"ref": name, "dependsOn": list(uses)}
