# SPDX-License-Identifier: Apache-2.0
"""What was built from what: an in-toto statement with a provenance of SLSA, in a signed envelope.

Sources: in-toto attestation framework, Statement 1; SLSA 1.0, provenance; DSSE 1.0. Pure but for the signature. The
builder is whoever ran ``make release``: this says what was done and is signed by the release key, which is no more than
SLSA's build level 1.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:vmgate:build:hatchling-twice:1"
BUILDER = "urn:vmgate:builder:make-release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One build.

    Attributes:
        subjects: SHA-256 (hexadecimal) of each file that came out.
        commit: of the source, hexadecimal.
        tools: name and version of each tool that had a say in the bytes.
        source_time: the commit's time, RFC 3339.
    """

    subjects: Mapping[str, str]
    commit: str
    tools: Mapping[str, str]
    source_time: str


def statement(built: Built) -> bytes:
    """The statement; the same bytes for the same build."""
    tools = [{"name": name, "annotations": {"version": version}} for name, version in sorted(built.tools.items())]
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(built.subjects.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"commit": built.commit},
                "internalParameters": {"builds": 2, "sourceTime": built.source_time},
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": built.commit}}, *tools,
                ],
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    }  # fmt: skip
    return json.dumps(value, sort_keys=True, indent=1).encode()


def encoded(payload: bytes) -> bytes:
    """What is signed of an envelope (DSSE, PAE)."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def envelope(payload: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The signed envelope."""
    value: dict[str, Any] = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(sign(encoded(payload))).decode()}],
    }
    return (json.dumps(value, indent=1) + "\n").encode()
