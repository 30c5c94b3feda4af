# SPDX-License-Identifier: Apache-2.0
"""What the local authority of a host vouches for: its local images and its local VMs, all of them in one document.

It is signed as a whole, with a number that grows by one: so no single definition can be put back to what it was before.
It can name nothing of a publisher's, and nothing in it says that it came by a release. A local VM is measured under a
pseudonym, and its definition by a salted digest, so that evidence tells a verifier that a local VM was started and not
which one. This module verifies no signature (``measure.local_authority`` does) and does no I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Self

from documents.canonical import Json
from documents.document import Document
from documents.fields import UUID, Fields, encode_bytes
from documents.release import MAX_LENGTH, MAX_NUMBER, PolicyKey

MAX_IMAGES = 256
MAX_VMS = 64
SALT = 32
"""Bytes."""

PSEUDONYM = "local/"
"""What the subject of a measured event about a local VM begins with. No name of a VM has a slash."""

_SUBJECT = b"vmgate local VM: name\0"
_DIGEST = b"vmgate local VM: definition\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalImage:
    """One image that an administrator of this host imported.

    Attributes:
        name: unique in the set.
        fsverity: digest of the image as it lies in the store, always raw.
        length: its bytes.
        source: format of the file that it came from: ``raw`` or ``qcow2``.
    """

    name: str
    fsverity: str
    length: int
    source: str

    @classmethod
    def read(cls, untrusted: Json) -> LocalImage:
        """Read one image."""
        fields = Fields(untrusted, "local image")
        image = cls(
            name=fields.take_name("name"),
            fsverity=fields.take_digest("fsverity"),
            length=fields.take_int("length", 1, MAX_LENGTH),
            source=fields.take_choice("source", ("raw", "qcow2")),
        )
        fields.finish()
        return image

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"name": self.name, "fsverity": self.fsverity, "length": self.length, "source": self.source}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalVm:
    """One VM that was made on this host.

    Attributes:
        name: of the VM, as its definition has it.
        uuid: of the VM, as its definition has it.
        fsverity: digest of its definition (``VmDefinition``), which lies in the store.
        length: its bytes.
        number: of the set in which this definition was signed first.
        salt: of this VM from its making to its end; secret from whoever reads evidence.
    """

    name: str
    uuid: str
    fsverity: str
    length: int
    number: int
    salt: bytes

    @classmethod
    def read(cls, untrusted: Json) -> LocalVm:
        """Read one VM."""
        fields = Fields(untrusted, "local VM")
        vm = cls(
            name=fields.take_name("name"),
            uuid=fields.take_text("uuid", UUID, 36),
            fsverity=fields.take_digest("fsverity"),
            length=fields.take_int("length", 1, 100_000),
            number=fields.take_int("number", 1, MAX_NUMBER),
            salt=fields.take_bytes("salt", SALT),
        )
        fields.finish()
        if len(vm.salt) != SALT:
            raise fields.wrong("salt", f"has not {SALT} bytes")
        return vm

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "fsverity": self.fsverity,
            "length": self.length,
            "number": self.number,
            "salt": encode_bytes(self.salt),
        }

    @property
    def subject(self) -> str:
        """The pseudonym under which the VM is measured."""
        return PSEUDONYM + hashlib.sha256(_SUBJECT + self.salt + self.name.encode()).hexdigest()[:32]

    @property
    def measured(self) -> str:
        """What stands in measured events for the digest of the definition."""
        return self.measured_as(self.fsverity)

    def measured_as(self, fsverity: str) -> str:
        """The same for another definition of this VM, such as an earlier one that still runs."""
        return hashlib.sha256(_DIGEST + self.salt + bytes.fromhex(fsverity)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSet(Document):
    """All of it; these bytes are signed.

    Attributes:
        number: 1 for a host's first, then one more each.
        time: seconds since 1970 UTC.
        actor: who had it signed last, as the audit trail names them.
        images: sorted by name.
        vms: sorted by name.
    """

    TYPE: ClassVar[str] = "vmgate.local-set"
    LIMIT: ClassVar[int] = 200_000

    number: int
    time: int
    actor: str
    images: tuple[LocalImage, ...] = ()
    vms: tuple[LocalVm, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """See ``Document.read``."""
        found = cls(
            number=fields.take_int("number", 1, MAX_NUMBER),
            time=fields.take_int("time", 0, 2**40),
            actor=fields.take_text("actor", limit=120),
            images=fields.take_list("images", LocalImage.read, MAX_IMAGES),
            vms=fields.take_list("vms", LocalVm.read, MAX_VMS),
        )
        for member, names in (("images", [i.name for i in found.images]), ("vms", [vm.name for vm in found.vms])):
            if names != sorted(set(names)):
                raise fields.wrong(member, "is not sorted by name")
        fields.require_distinct("vms", [vm.uuid for vm in found.vms])
        if any(vm.number > found.number for vm in found.vms):
            raise fields.wrong("vms", "has a number that was not reached yet")
        return found

    def members(self) -> dict[str, Json]:
        """See ``Document.members``."""
        return {
            "number": self.number,
            "time": self.time,
            "actor": self.actor,
            "images": [image.members() for image in self.images],
            "vms": [vm.members() for vm in self.vms],
        }

    def vm(self, name: str) -> LocalVm | None:
        """The VM of a name."""
        return next((vm for vm in self.vms if vm.name == name), None)

    def image(self, name: str) -> LocalImage | None:
        """The image of a name."""
        return next((image for image in self.images if image.name == name), None)

    def kept(self) -> frozenset[str]:
        """Digests of all that must stay in the store for it."""
        return frozenset((*(image.fsverity for image in self.images), *(vm.fsverity for vm in self.vms)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedLocalSet(Document):
    """A set with all that a verifier needs who knows the host's attestation key. Holds no key, but the VMs' salts.

    Attributes:
        content: the bytes of a ``LocalSet``.
        signature: TPMT_SIGNATURE over them.
        public: TPMT_PUBLIC of the key that signed.
        channel: platform channel whose policies allow the key's use.
        key: the policy key whose policies do.
        attest: TPMS_ATTEST by which the attestation key certifies the key.
        certification: TPMT_SIGNATURE over ``attest``.
    """

    TYPE: ClassVar[str] = "vmgate.signed-local-set"
    LIMIT: ClassVar[int] = 300_000

    content: bytes
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
            content=fields.take_bytes("content", LocalSet.LIMIT),
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
            "signature": encode_bytes(self.signature),
            "public": encode_bytes(self.public),
            "channel": self.channel,
            "key": self.key.members(),
            "attest": encode_bytes(self.attest),
            "certification": encode_bytes(self.certification),
        }
