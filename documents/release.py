# SPDX-License-Identifier: Apache-2.0
"""A release: the exact set of artifacts of one channel, what they measure to, and the TPM policies for that state.

One TUF target holds one release, so one signature covers all of it. This module does not check signatures, digests
or whether the reference values fit the artifacts; ``publisher`` makes them and ``measure`` judges by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import NAME, SLASHED, Fields, encode_bytes
from documents.waves import Wave, read_waves

MAX_NUMBER = 2**31
MAX_LENGTH = 2**44
"""Largest artifact in bytes (16 TiB)."""

KINDS = (
    "definition",
    "firmware-code",
    "firmware-vars",
    "hook",
    "host-files",
    "host-image",
    "image",
    "security-policy",
    "site-baseline",
    "vmgate-build",
    "vmm-image",
)
"""What an artifact can be. ``host-files`` and ``vmgate-build`` are lists of files that a package put on the host;
``vmm-image`` is a file system that holds all of the VMM."""

AGENT_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
TARGET = re.compile(rf"releases/{NAME.pattern}/[1-9][0-9]{{0,9}}\.json")
"""The TUF target that a release is."""

TARGET_LENGTH = 88
ORIGIN_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_-]{0,79}")
"""A version as whoever brought a thing calls it."""

COORDINATE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One thing that a release delivers: a blob addressed by its fs-verity digest.

    Attributes:
        name: unique in the release, such as ``vmm/firmware-code``.
        kind: one of ``KINDS``.
        fsverity: SHA-256 fs-verity digest, 64 hexadecimal characters.
        length: bytes.
    """

    name: str
    kind: str
    fsverity: str
    length: int

    @classmethod
    def read(cls, untrusted: Json) -> Artifact:
        """Read one artifact of a release."""
        fields = Fields(untrusted, "artifact")
        artifact = cls(
            name=fields.take_text("name", SLASHED, 120),
            kind=fields.take_choice("kind", KINDS),
            fsverity=fields.take_digest("fsverity"),
            length=fields.take_int("length", 0, MAX_LENGTH),
        )
        fields.finish()
        return artifact

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, "kind": self.kind, "fsverity": self.fsverity, "length": self.length}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where something came from.

    Attributes:
        target: the TUF target of the release that brought it, such as ``releases/platform/3.json``.
        version: what its publisher calls it; the release's number, where it has no other.
    """

    target: str
    version: str

    @classmethod
    def of(cls, channel: str, number: int) -> Origin:
        """What came with a release."""
        return cls(target=f"releases/{channel}/{number}.json", version=str(number))

    @classmethod
    def take(cls, fields: Fields, version: str = "version") -> Origin | None:
        """Take it from an object that may have both of its members, and never one alone."""
        if not (fields.has("target") or fields.has(version)):
            return None
        return cls(
            target=fields.take_text("target", TARGET, TARGET_LENGTH),
            version=fields.take_text(version, ORIGIN_VERSION, 80),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValue:
    """One event that a host in this release's state extends into its VMM PCR.

    Attributes:
        component: the artifact's name, or ``repository``.
        fsverity: the digest that the component must have.
        origin: the release that brought these very bytes, which may be an earlier one: what did not change measures
            as before. None, and then absent, in releases that were made before events told it.
    """

    component: str
    fsverity: str
    origin: Origin | None = None

    @classmethod
    def read(cls, untrusted: Json) -> ReferenceValue:
        """Read one reference value."""
        fields = Fields(untrusted, "reference value")
        value = cls(
            component=fields.take_text("component", SLASHED, 120),
            fsverity=fields.take_digest("fsverity"),
            origin=Origin.take(fields),
        )
        fields.finish()
        return value

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        origin = self.origin
        told: dict[str, Json] = {"target": origin.target, "version": origin.version} if origin else {}
        return {"component": self.component, "fsverity": self.fsverity, **told}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyKey:
    """The public half of a TPM policy key: an ECC P-256 point, 64 hexadecimal characters a coordinate."""

    x: str
    y: str

    @classmethod
    def read(cls, untrusted: Json) -> PolicyKey:
        """Read one key."""
        fields = Fields(untrusted, "policy key")
        key = cls(x=fields.take_text("x", COORDINATE, 64), y=fields.take_text("y", COORDINATE, 64))
        fields.finish()
        return key

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"x": self.x, "y": self.y}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPolicy:
    """A TPM policy for one predicted state, signed with the policy key (TPM 2.0 Part 3, TPM2_PolicyAuthorize).

    Attributes:
        entry: how the host came into the state: ``fresh`` boot, or ``switch`` within a boot.
        predecessor: the platform release switched from; 0 for a fresh boot.
        epoch: the security epoch of the sealed object that this opens (part of the policyRef); 0 for purpose keys,
            which no epoch shuts out because a key cannot be re-sealed.
        pcrs: (index, SHA-256 value in hexadecimal) in ascending order of index.
        signature: ECDSA P-256 over SHA-256 of approvedPolicy || policyRef; r || s, 64 bytes.
    """

    entry: str
    predecessor: int
    epoch: int
    pcrs: tuple[tuple[int, str], ...]
    signature: bytes

    @classmethod
    def read(cls, untrusted: Json) -> SignedPolicy:
        """Read one signed policy."""
        fields = Fields(untrusted, "signed policy")
        policy = cls(
            entry=fields.take_choice("entry", ("fresh", "switch")),
            predecessor=fields.take_int("predecessor", 0, MAX_NUMBER),
            epoch=fields.take_int("epoch", 0, MAX_NUMBER),
            pcrs=fields.take_list("pcrs", _read_pcr, 24),
            signature=fields.take_bytes("signature", 64),
        )
        indexes = [index for index, _ in policy.pcrs]
        if not indexes or indexes != sorted(set(indexes)):
            raise fields.wrong("pcrs", "is empty or not in ascending order")
        if len(policy.signature) != 64:
            raise fields.wrong("signature", "is not 64 bytes")
        if (policy.entry == "fresh") != (policy.predecessor == 0):
            raise fields.wrong("predecessor", "does not fit its entry")
        fields.finish()
        return policy

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "entry": self.entry,
            "predecessor": self.predecessor,
            "epoch": self.epoch,
            "pcrs": [{"index": index, "sha256": value} for index, value in self.pcrs],
            "signature": encode_bytes(self.signature),
        }


def _read_pcr(untrusted: Json) -> tuple[int, str]:
    fields = Fields(untrusted, "PCR value")
    pair = (fields.take_int("index", 0, 23), fields.take_digest("sha256"))
    fields.finish()
    return pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Document):
    """What one channel is at one number.

    Attributes:
        channel: such as ``platform``.
        authority: ``platform`` (VMM, vmgate, host policy) or ``workload`` (images, definitions).
        number: grows by at least one with each release of the channel.
        epoch: security epoch; raising it shuts older releases out for good.
        minimum_agent: the oldest vmgate that may apply this release, ``major.minor.patch``.
        import_days: days after publication during which an offline bundle of it may be applied.
        accepts: for a workload, the platform release numbers it runs on (lowest, highest); (0, 0) for a platform.
        artifacts: everything it is made of.
        reference: the events of the VMM PCR in their order; empty for a workload.
        policy_keys: keys that may sign TPM policies, the current one first; empty for a workload.
        policies: signed TPM policies; empty for a workload.
        refused: fs-verity digests that must not run any more, whatever signed them.
        waves: when which hosts take it on their own; empty (and then absent) for all at once.
        urgent: a host that updates itself waits for no wave, window or metered connection; absent unless true.
    """

    TYPE: ClassVar[str] = "vmgate.release"
    LIMIT: ClassVar[int] = 1_000_000

    channel: str
    authority: str
    number: int
    epoch: int
    minimum_agent: str
    import_days: int
    accepts: tuple[int, int]
    artifacts: tuple[Artifact, ...]
    reference: tuple[ReferenceValue, ...]
    policy_keys: tuple[PolicyKey, ...]
    policies: tuple[SignedPolicy, ...]
    refused: tuple[str, ...]
    waves: tuple[Wave, ...] = ()
    urgent: bool = False

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        release = cls(
            channel=fields.take_name("channel"),
            authority=fields.take_choice("authority", ("platform", "workload")),
            number=fields.take_int("number", 1, MAX_NUMBER),
            epoch=fields.take_int("epoch", 1, MAX_NUMBER),
            minimum_agent=fields.take_text("minimum_agent", AGENT_VERSION, 14),
            import_days=fields.take_int("import_days", 0, 3660),
            accepts=(
                fields.take_int("accepts_from", 0, MAX_NUMBER),
                fields.take_int("accepts_to", 0, MAX_NUMBER),
            ),
            artifacts=fields.take_list("artifacts", Artifact.read, 10_000),
            reference=fields.take_list("reference", ReferenceValue.read, 64),
            policy_keys=fields.take_list("policy_keys", PolicyKey.read, 4),
            policies=fields.take_list("policies", SignedPolicy.read, 256),
            refused=fields.take_texts("refused", COORDINATE, 1_000, 64),
            waves=read_waves(fields),
            urgent=fields.take_bool("urgent") if (says_urgent := fields.has("urgent")) else False,
        )
        if says_urgent and not release.urgent:
            raise fields.wrong("urgent", "is there and not true")
        if release.urgent and release.waves:
            raise fields.wrong("waves", "has no meaning in an urgent release")
        release._require_consistent(fields)
        return release

    def _require_consistent(self, fields: Fields) -> None:
        fields.require_distinct("artifacts", [artifact.name for artifact in self.artifacts])
        fields.require_distinct("reference", [value.component for value in self.reference])
        if not self.artifacts:
            raise fields.wrong("artifacts", "is empty")
        measured = {value.component for value in self.reference}
        if any(image.name not in measured for image in self.of_kind("vmm-image")):
            raise fields.wrong("reference", "does not name a VMM image that the release brings")
        if self.authority == "platform":
            if not self.reference or not self.policy_keys or not self.policies:
                raise fields.wrong("reference", "and its policies must be there in a platform release")
            if self.accepts != (0, 0):
                raise fields.wrong("accepts_from", "has no meaning in a platform release")
        else:
            if self.reference or self.policy_keys or self.policies:
                raise fields.wrong("reference", "has no meaning in a workload release")
            if not 1 <= self.accepts[0] <= self.accepts[1]:
                raise fields.wrong("accepts_from", "names no platform release")

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "channel": self.channel,
            "authority": self.authority,
            "number": self.number,
            "epoch": self.epoch,
            "minimum_agent": self.minimum_agent,
            "import_days": self.import_days,
            "accepts_from": self.accepts[0],
            "accepts_to": self.accepts[1],
            "artifacts": [artifact.members() for artifact in self.artifacts],
            "reference": [value.members() for value in self.reference],
            "policy_keys": [key.members() for key in self.policy_keys],
            "policies": [policy.members() for policy in self.policies],
            "refused": list(self.refused),
            **({"waves": [wave.members() for wave in self.waves]} if self.waves else {}),
            **({"urgent": True} if self.urgent else {}),
        }

    @property
    def origin(self) -> Origin:
        """What this release is to the things that came with it."""
        return Origin.of(self.channel, self.number)

    def artifact(self, name: str) -> Artifact | None:
        """The artifact of that name, if the release has it."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)

    def of_kind(self, kind: str) -> tuple[Artifact, ...]:
        """All artifacts of one kind, in the release's order."""
        return tuple(artifact for artifact in self.artifacts if artifact.kind == kind)
