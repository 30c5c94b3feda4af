# SPDX-License-Identifier: Apache-2.0
"""The SWID tag of vmgate (ISO/IEC 19770-2:2015; NISTIR 8060): what FPT_IDV_EXT.1 asks for.

One lies in the wheel, as ``vmgate/vmgate.swidtag``; one with the wheel's digest lies beside it in a release. Pure.
``PYTHONPATH=. python -P -m release.tag`` writes the first anew.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from lxml import etree

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "vmgate/vmgate.swidtag"
NAMESPACE = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
UNAVAILABLE = "http://invalid.unavailable"
"""NISTIR 8060, 4.2.1: the regid of who has none."""


def version() -> str:
    """The version of this tree."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def swid_tag(of: str, files: dict[str, tuple[int, str]] | None = None) -> bytes:
    """The tag.

    Args:
        of: the version.
        files: length and SHA-256 (hexadecimal) of each file of a release; none for the tag inside the wheel.
    """
    root = etree.Element(
        f"{{{NAMESPACE}}}SoftwareIdentity",
        {
            "name": "vmgate", "tagId": f"vmgate-{of}", "tagVersion": "0", "version": of,
            "versionScheme": "multipartnumeric", "{http://www.w3.org/XML/1998/namespace}lang": "en",
        },
        nsmap={None: NAMESPACE, "SHA256": SHA256},  # type: ignore[dict-item]  # stubs know no default namespace
    )  # fmt: skip
    roles = "tagCreator softwareCreator"
    etree.SubElement(root, f"{{{NAMESPACE}}}Entity", {"name": "vmgate", "regid": UNAVAILABLE, "role": roles})
    if files:
        payload = etree.SubElement(root, f"{{{NAMESPACE}}}Payload")
        for name, (length, digest) in sorted(files.items()):
            described = {"name": name, "size": str(length), f"{{{SHA256}}}hash": digest}
            etree.SubElement(payload, f"{{{NAMESPACE}}}File", described)
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8") + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(swid_tag(version()))
