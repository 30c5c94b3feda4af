# SPDX-License-Identifier: Apache-2.0
"""All that a VM is on a host as one signed set: what ``vm export`` writes and ``vm import`` takes.

A set names each of its parts by digest and holds the VM's key, so it is never written but encrypted
(``agent.set_stream``). This module opens nothing and decides nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.definition import MAX_DISKS, VmDefinition
from documents.document import Document
from documents.fields import NAME, UUID, Fields, encode_bytes
from documents.local_set import LocalImage
from documents.recovery import VM_KEY_BYTES
from documents.release import MAX_LENGTH, PolicyKey

VTPM = "vtpm"
DISK, RECORD, IMAGE = "disk/", "record/", "image/"
PART = re.compile(f"vtpm|(?:disk|record|image)/{NAME.pattern}")
MAX_PARTS = 3 * MAX_DISKS + 1
MAX_SET_NUMBER = 2**40

WHOSE = ("publisher", "local")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmPart:
    """One part of a set.

    Attributes:
        name: ``vtpm``: the state of its TPM, encrypted with its key. ``disk/NAME``: a disk that it keeps.
            ``record/NAME``: that disk's state record. ``image/NAME``: an image of a local VM.
        length: bytes.
        fsverity: its digest.
    """

    name: str
    length: int
    fsverity: str

    @classmethod
    def read(cls, untrusted: Json) -> VmPart:
        """Read one part."""
        fields = Fields(untrusted, "part")
        part = cls(
            name=fields.take_text("name", PART, 70),
            length=fields.take_int("length", 0, MAX_LENGTH),
            fsverity=fields.take_digest("fsverity"),
        )
        fields.finish()
        return part

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, "length": self.length, "fsverity": self.fsverity}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VmSet(Document):
    """What one VM is. It holds the VM's key in the clear.

    Attributes:
        id: a UUID of the set's own.
        number: grows with each set of this VM, on whatever host it is made.
        time: seconds since 1970 UTC.
        authority: whose definition it is: ``publisher`` or ``local``.
        definition: the bytes of the VM's definition.
        key: the VM's key, 32 bytes.
        endorsement: which TPM is the VM's (``VmTpm``).
        images: of a local VM's definition, as its host had them; else empty.
        parts: sorted by name; in this order they follow.
    """

    TYPE: ClassVar[str] = "vmgate.vm-set"
    LIMIT: ClassVar[int] = 200_000

    id: str
    number: int
    time: int
    authority: str
    definition: bytes
    key: bytes
    endorsement: str
    parts: tuple[VmPart, ...]
    images: tuple[LocalImage, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(
            id=fields.take_text("id", UUID, 36),
            number=fields.take_int("number", 1, MAX_SET_NUMBER),
            time=fields.take_int("time", 0, 2**40),
            authority=fields.take_choice("authority", WHOSE),
            definition=fields.take_bytes("definition", VmDefinition.LIMIT),
            key=fields.take_bytes("key", VM_KEY_BYTES),
            endorsement=fields.take_digest("endorsement"),
            parts=fields.take_list("parts", VmPart.read, MAX_PARTS),
            images=fields.take_list("images", LocalImage.read, MAX_DISKS),
        )
        if len(found.key) != VM_KEY_BYTES:
            raise fields.wrong("key", f"is not {VM_KEY_BYTES} bytes")
        names = [part.name for part in found.parts]
        if names != sorted(set(names)):
            raise fields.wrong("parts", "is not sorted by name")
        if VTPM not in names:
            raise fields.wrong("parts", "has no vtpm")
        disks = {name.removeprefix(DISK) for name in names if name.startswith(DISK)}
        if disks != {name.removeprefix(RECORD) for name in names if name.startswith(RECORD)}:
            raise fields.wrong("parts", "has a disk without its record, or a record without its disk")
        images = {(f"{IMAGE}{image.name}", image.length, image.fsverity) for image in found.images}
        if images != {(p.name, p.length, p.fsverity) for p in found.parts if p.name.startswith(IMAGE)}:
            raise fields.wrong("parts", "does not have the images")
        if len(images) != len(found.images) or (found.images and found.authority != "local"):
            raise fields.wrong("images", "are not those of a local VM")
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "id": self.id,
            "number": self.number,
            "time": self.time,
            "authority": self.authority,
            "definition": encode_bytes(self.definition),
            "key": encode_bytes(self.key),
            "endorsement": self.endorsement,
            "parts": [part.members() for part in self.parts],
            "images": [image.members() for image in self.images],
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SignedVmSet(Document):
    """A set with all that a verifier needs who knows the exporting host's attestation key by its digest.

    Attributes:
        content: the bytes of a ``VmSet``.
        ak: TPMT_PUBLIC of the host's attestation key.
        signature, public, channel, key, attest, certification: see ``documents.local_set.SignedLocalSet``.
    """

    TYPE: ClassVar[str] = "vmgate.signed-vm-set"
    LIMIT: ClassVar[int] = 300_000

    content: bytes
    ak: bytes
    signature: bytes
    public: bytes
    channel: str
    key: PolicyKey
    attest: bytes
    certification: bytes

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        return cls(
            content=fields.take_bytes("content", VmSet.LIMIT),
            ak=fields.take_bytes("ak", 1_000),
            signature=fields.take_bytes("signature", 1_000),
            public=fields.take_bytes("public", 1_000),
            channel=fields.take_name("channel"),
            key=PolicyKey.read(fields.take("key")),
            attest=fields.take_bytes("attest", 2_000),
            certification=fields.take_bytes("certification", 1_000),
        )

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "content": encode_bytes(self.content),
            "ak": encode_bytes(self.ak),
            "signature": encode_bytes(self.signature),
            "public": encode_bytes(self.public),
            "channel": self.channel,
            "key": self.key.members(),
            "attest": encode_bytes(self.attest),
            "certification": encode_bytes(self.certification),
        }
