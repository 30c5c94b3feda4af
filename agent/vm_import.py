# SPDX-License-Identifier: Apache-2.0
"""Takes a VM from a file that ``agent.vm_export`` wrote, here or on another host: whole and as it was signed, or not.

The checks, in their order; nothing is changed before all of them passed:
 1. The file is encrypted under the key that was given, and its set is signed by the host that was named, in a state
    that the publisher of this host's platform signed as well.
 2. Name and UUID are those of a VM that an active release defines with the same kept disks, or of a local VM whose name
    and UUID nobody has; and it keeps nothing here yet.
 3. The set is not older than what this host knows of the VM.
 4. Each part is the one that was signed, the TPM's state opens with the VM's key and has the endorsement key that was
    signed, and each disk is the one of its record.

The VM's key comes last: before it is wrapped, what a cut left here is no VM's, and the next try replaces it. This
module does not make the gate say yes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent import set_stream
from agent.baselines import MAX_AK
from agent.disk_files import FOLDER_MODE
from agent.disk_look import look
from agent.disk_records import SUFFIX, record_key
from agent.launch import make_vm_folder
from agent.plan import VmPlan, own_disk
from agent.set_errors import SetRefused, SetStale, SetTaken, SetUnfit
from agent.set_stream import Opened, refused
from agent.vm_errors import LocalUnfit
from agent.vm_export import CERTIFICATION, SetHost
from agent.vm_parts import kept, numbers_of
from agent.vtpm import MAX_STATE, STATE_FILE, GuestTpms
from content import durable
from content.fsverity import digest_file
from content.store import ContentStore
from documents.canonical import Json
from documents.definition import Disk, VmDefinition
from documents.errors import DocumentError, VmgateError
from documents.host_state import Generation, VmTpm
from documents.local_set import LocalImage
from documents.state_record import StateRecord
from documents.vm_set import DISK, IMAGE, RECORD, VTPM, SignedVmSet, VmPart, VmSet
from hypervisor.image_file import ImageFile, open_image
from measure.errors import QuoteRefused
from measure.purpose import verify_purpose

KEY_BYTES = 32
FOLDER = "disks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definers:
    """How this host comes to know a VM.

    Attributes:
        require_active: gives the active generation.
        programs: folder of the active VMM image's programs; None for the host's.
        require_free: raises unless a local VM of that definition may be made, or was made already.
        adopt: has a definition signed by the local authority, unless it is already.
        add_image: has an image signed, unless it is already; the second argument puts it into the store.
    """

    require_active: Callable[[], Generation]
    programs: Callable[[Generation], Path | None]
    require_free: Callable[[VmDefinition], None]
    adopt: Callable[[VmDefinition, str], None]
    add_image: Callable[[LocalImage, Callable[[], LocalImage], str], None]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Arrived:
    """A set that passed checks 1 to 3.

    Attributes:
        content, definition: of the set.
        signer: digest of the attestation key of the host that signed it.
    """

    content: VmSet
    definition: VmDefinition
    signer: str

    @property
    def secret(self) -> str:
        """The VM's key."""
        return self.content.key.hex()

    def about(self) -> dict[str, str]:
        """For the record."""
        return {"uuid": self.definition.uuid, "set": self.content.id, "number": str(self.content.number)}


class VmImport:
    """Of one host.

    Args:
        host, definers: of the host.
    """

    def __init__(self, host: SetHost, definers: Definers) -> None:
        self._host = host
        self._definers = definers
        self._tpms = GuestTpms(host.states)

    def take(self, path: Path, untrusted_key: str, signer: str, actor: str, uid: int) -> dict[str, Json]:
        """Take a VM.

        Args:
            path: of the file, which belongs to whoever asks.
            untrusted_key: the set's key, hexadecimal, as the holder of the recovery key opened it.
            signer: SHA-256 of the attestation key of the host that it comes from; empty for this host.
            actor, uid: who asks.

        Raises:
            SetRefused, SetStale, SetTaken, SetUnfit: see the checks; recorded, and nothing was changed.
            VmgateError: it failed; call it again.
        """
        with self._telling(path, actor), open_image(path) as file:
            if uid not in (0, file.owner):
                raise refused(f"{path} belongs to user {file.owner}")
            generation = self._definers.require_active()
            read = _reader(file)
            head, copy = set_stream.read_head(read)
            opened = Opened(_key(untrusted_key), head, read)
            arrived = self._verified(opened, copy.uuid, signer, generation)
            durable.require_space(self._host.outside.paths.state, sum(part.length for part in arrived.content.parts))
            durable.make_directory(self._host.outside.paths.vms, 0o711)
            folder = durable.temporary(self._host.outside.paths.vms)
            durable.make_directory(folder, 0o711)
            try:
                self._stage(opened, arrived, folder, generation)
                return self._settle(arrived, folder, generation, actor)
            finally:
                durable.remove_tree(folder)

    def _verified(self, opened: Opened, set_id: str, signer: str, generation: Generation) -> _Arrived:
        length = int.from_bytes(opened.take(set_stream.LENGTH), "big")
        if not 0 < length <= SignedVmSet.LIMIT:
            raise refused("it begins with no set")
        try:
            signed = SignedVmSet.parse(opened.take(length))
            found = hashlib.sha256(signed.ak).hexdigest()
            own = hashlib.sha256(durable.read_file(self._host.outside.paths.ak, MAX_AK)).hexdigest()
            if not hmac.compare_digest(found, signer or own):
                raise refused(f"the host {found} signed it, and {signer or 'this host'} was named")
            verify_purpose(signed, signed.content, signed.ak, CERTIFICATION)
            content = VmSet.parse(signed.content)
            definition = VmDefinition.parse(content.definition)
        except (DocumentError, QuoteRefused) as error:
            raise refused(error.cause) from error
        platform = generation.platform
        if signed.channel != platform.channel or signed.key not in platform.policy_keys:
            raise refused("it was signed in a state that another publisher approved")
        if content.id != set_id:
            raise refused("its head is another set's")
        arrived = _Arrived(content=content, definition=definition, signer=found)
        self._require_place(arrived)
        least = self._host.ledger.least(definition.uuid)
        if content.number < least:
            raise SetStale(
                "nothing was imported",
                cause=f"it is set {content.number} of {definition.name}, and this host knows a state after it",
                remedy=f"take the newest set, whose number is at least {least}",
            )
        return arrived

    def _require_place(self, arrived: _Arrived) -> None:
        """Check 2."""
        definition, paths = arrived.definition, self._host.outside.paths
        for other in self._host.vms.all():
            there = (other.definition.name, other.definition.uuid)
            if there != (definition.name, definition.uuid) and {definition.name, definition.uuid} & set(there):
                raise _taken(f"the VM {other.definition.name} of this host has its name or UUID")
        for name in (definition.name, f"{definition.name}@{definition.uuid}"):
            if paths.wrapped_key(name).exists() or paths.recovery_copy(name).exists():
                raise _taken(f"{definition.name} has a key here already")
        here = [other for other in self._host.vms.all() if other.definition.uuid == definition.uuid]
        if here and kept(here[0].definition.disks) != kept(definition.disks):
            raise _unfit(f"the definition of {definition.name} on this host has other disks that it keeps")
        if not here and arrived.content.authority != "local":
            raise _unfit(f"no active release of this host defines {definition.name}")
        if not here or here[0].local is not None:
            self._definers.require_free(definition)

    def _stage(self, opened: Opened, arrived: _Arrived, folder: Path, generation: Generation) -> None:
        """Check 4, into a folder of its own."""
        for place in (FOLDER, VTPM, "image"):
            durable.make_directory(folder / place, FOLDER_MODE)
        names = {disk.name: disk for disk in kept(arrived.definition.disks)}
        for part in arrived.content.parts:
            target = folder / VTPM / STATE_FILE if part.name == VTPM else _place(folder, part, names)
            limit = {RECORD: StateRecord.LIMIT}.get(part.name.partition("/")[0] + "/", part.length)
            if part.length > (MAX_STATE if part.name == VTPM else limit):
                raise refused(f"{part.name} has {part.length} bytes")
            with durable.Writer(target) as writer:
                for piece in opened.pieces(part.length):
                    writer.write(piece)
                writer.commit(target)
            if digest_file(target).fsverity != part.fsverity:
                raise refused(f"{part.name} is not the part that was signed")
        opened.finish()
        found = self._tpms.identify(folder / VTPM, arrived.secret, self._definers.programs(generation))
        if found != arrived.content.endorsement:
            raise refused(f"its TPM has the endorsement key {found}, and {arrived.content.endorsement} was signed")

    def _settle(self, arrived: _Arrived, folder: Path, generation: Generation, actor: str) -> dict[str, Json]:
        host, definition = self._host, arrived.definition
        if arrived.content.authority == "local" and not any(
            vm.definition.uuid == definition.uuid and vm.local is None for vm in host.vms.all()
        ):
            for image in arrived.content.images:
                self._definers.add_image(image, _storer(host.store, folder / "image" / image.name, image), actor)
            self._definers.adopt(definition, actor)
        about = {**arrived.about(), "signer": arrived.signer, "endorsement": arrived.content.endorsement}
        audit = host.outside.audit
        with host.turn:
            host_key = host.keys.open_host_key(generation.platform)
            audit.append("vm-import", "started", definition.name, actor, **about)
            try:
                vm = host.vms.find(definition.name)
                self._put(vm, arrived, folder, actor)
                host.keys.put(vm.definition, arrived.content.key, host_key)
            except VmgateError as error:
                audit.append(
                    "vm-import", "failed", definition.name, actor, code=error.code, cause=error.cause, **arrived.about()
                )
                raise
            audit.append("vm-import", "done", definition.name, actor, **about)
        host.vms.define_all()
        return {"name": definition.name, **about, "number": arrived.content.number}

    def _put(self, vm: VmPlan, arrived: _Arrived, folder: Path, actor: str) -> None:
        paths, definition, secret = self._host.outside.paths, vm.definition, arrived.secret
        self._require_place(arrived)
        own = make_vm_folder(paths, definition.name)
        # Without a key it is nobody's: left by a cut.
        durable.remove_tree(own / FOLDER)
        durable.rename(folder / FOLDER, own / FOLDER)
        disks = kept(definition.disks)
        numbers = numbers_of(vm, secret)
        try:
            for disk in disks:
                look(vm, disk, record_key(secret), 0)
        except VmgateError as error:
            durable.remove_tree(own / FOLDER)
            raise _unfit(f"a disk would not be taken by the gate: {error.cause}") from error
        self._tpms.put(definition.uuid, folder / VTPM / STATE_FILE)
        note = VmTpm(uuid=definition.uuid, endorsement=arrived.content.endorsement)
        durable.write_file(own / "vtpm.json", note.encode())
        for disk in disks:
            if disk.name in numbers:
                about = {"uuid": definition.uuid, "disk": disk.name, "number": numbers[disk.name]}
                self._host.outside.audit.append(
                    "disk-import", "done", definition.name, actor, **{**about, "class": disk.disk_class}
                )

    @contextmanager
    def _telling(self, path: Path, actor: str) -> Iterator[None]:
        try:
            yield
        except (SetRefused, SetStale, SetTaken, SetUnfit, LocalUnfit) as error:
            self._host.outside.audit.append(
                "vm-import", "refused", path.name, actor, code=error.code, cause=error.cause
            )
            raise


def _place(folder: Path, part: VmPart, disks: dict[str, Disk]) -> Path:
    """Where a part is put. Its name has no slash but the one behind its kind (``documents.vm_set.PART``)."""
    kind, _, name = part.name.partition("/")
    if f"{kind}/" == IMAGE:
        return folder / "image" / name
    disk = disks.get(name)
    if disk is None:
        raise refused(f"its definition keeps no disk {name}")
    path = own_disk(folder, disk)
    return path if f"{kind}/" == DISK else path.with_suffix(SUFFIX)


def _storer(store: ContentStore, path: Path, image: LocalImage) -> Callable[[], LocalImage]:
    def put() -> LocalImage:
        store.add_file(path)
        return image

    return put


def _reader(file: ImageFile) -> set_stream.Read:
    place = 0

    def read(length: int) -> bytes:
        nonlocal place
        found = file.read(place, min(length, max(0, file.length - place)))
        place += len(found)
        return found

    return read


def _key(untrusted_key: str) -> bytes:
    try:
        key = bytes.fromhex(untrusted_key)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise refused("the key that was given is none")
    return key


def _taken(cause: str) -> SetTaken:
    return SetTaken("nothing was imported", cause=cause, remedy="`vmgate explain AG202`")


def _unfit(cause: str) -> SetUnfit:
    return SetUnfit("nothing was imported", cause=cause, remedy="`vmgate explain AG203`")
