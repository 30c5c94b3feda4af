# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: well-formed documents of every type, and ways to damage their bytes.

The documents are well formed and small, not consistent with each other: digests are random. This module knows no file,
key or TPM.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from documents.assignment import Assignment, Range
from documents.attachments import NetworkUse
from documents.audit import GENESIS, AuditHead, AuditRecord, AuditSent, SignedHead
from documents.audit import OUTCOMES as AUDIT_OUTCOMES
from documents.baseline import Baseline, SignedBaseline
from documents.boot_state import BootState
from documents.bundle import BundleEntry, BundleIndex
from documents.canonical import Json
from documents.checkpoint import Checkpoint
from documents.definition import DISK_CLASSES, GUARDIANS, IMAGELESS, MAX_SIZE_MIB, MIB, RESTARTS, Disk, VmDefinition
from documents.document import Document
from documents.enrolment import SECONDS, Enrolled, EnrolmentOffer, EnrolmentProof, EnrolmentRequest, Membership
from documents.enrolment import STATES as ENROLMENT_STATES
from documents.errors import Exit
from documents.event import EVENTS, FROM_A_RELEASE, OF_A_VM, MeasuredEvent
from documents.evidence import Evidence
from documents.fields import TEXT
from documents.fleet_answers import LEVELS as FLEET_LEVELS
from documents.fleet_answers import STATUSES, Appraised, AuditReceipt, AuditUpload, NonceGrant, Refusal
from documents.host_devices import DEVICE_KINDS, MEDIA, PCI, HostDevice, HostDevices
from documents.host_files import HostFile, HostFiles
from documents.host_image import VARIABLES, FirmwareEvents, HostImage, ImageFile, SecureBootState
from documents.host_networks import NAT, NETWORK_KINDS, PEERS, HostNetwork, HostNetworks
from documents.host_state import (
    UPDATE_STATES,
    Floor,
    Generation,
    PurposeKey,
    SealedKey,
    UpdateJournal,
    VmTpm,
    WrappedVmKey,
)
from documents.host_status import HostStatus
from documents.identity import Challenge, EndorsementKey, Identity
from documents.local_api import Request, Response
from documents.local_listing import ListedFile, LocalListing
from documents.local_set import PSEUDONYM, SALT, LocalImage, LocalSet, LocalVm, SignedLocalSet
from documents.recovery import RecoveredKey, RecoveredKeys, RecoveryKey
from documents.release import (
    KINDS,
    MAX_LENGTH,
    MAX_NUMBER,
    Artifact,
    Origin,
    PolicyKey,
    ReferenceValue,
    Release,
    SignedPolicy,
)
from documents.revocation import ACTS, Revocation
from documents.revocation import LONGEST as LONGEST_NOTICE
from documents.sealed import SealedAhead, SealedFloor
from documents.security_policy import ALLOWANCES, COLLECTED, DRIFT, LOCAL, LONGEST, SHORTEST, SecurityPolicy
from documents.security_policy import DIGESTS as HOW_OFTEN
from documents.seen_host import CLOCK, COUNTS, SeenHost
from documents.signing_request import SigningPart, SigningRequest, Wanted
from documents.site_baseline import SiteBaseline
from documents.state_form import StateForm
from documents.state_record import MAC_SIZE, MARK_SIZE, StateRecord
from documents.state_record import STATES as RECORD_STATES
from documents.tpm_key import TpmKey
from documents.trial import UpdateTrial
from documents.unattended import RunningVm, UpdateContact, UpdatePause, WavePlace
from documents.verdict import AUTHORITIES, KEPT, LEVELS, OUTCOMES, TAKEN, Finding, Verdict
from documents.vm_set import MAX_SET_NUMBER, WHOSE, SignedVmSet, VmPart, VmSet
from documents.waves import HOSTS, Wave

T = TypeVar("T")

LOWER = string.ascii_lowercase + string.digits
MIDDLE = LOWER + "._-"


def _joined(first: str, rest: str, limit: int, last: str = "") -> st.SearchStrategy[str]:
    parts = [st.sampled_from(first), st.text(rest, max_size=limit)]
    if last:
        parts.append(st.sampled_from(last))
    return st.tuples(*parts).map("".join)


NAMES = st.sampled_from(LOWER) | _joined(LOWER, MIDDLE, 20, LOWER)
SLASHED_NAMES = st.lists(_joined(LOWER, MIDDLE, 10), min_size=1, max_size=4).map("/".join)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
UUIDS = st.uuids().map(str)
TEXTS = st.text(st.characters(codec="utf-8").filter(lambda c: TEXT.fullmatch(c) is not None), max_size=40)
FULL_TEXTS = TEXTS.filter(bool)
LENGTHS = st.integers(0, MAX_LENGTH)
NUMBERS = st.integers(1, MAX_NUMBER)
TIMES = st.integers(0, 2**40)
BLOBS = st.binary(max_size=40)
PATHS = st.lists(_joined(string.ascii_letters, string.ascii_letters + "@%+=:,._~-", 8), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
VERSIONS = st.tuples(*[st.integers(0, 9999)] * 3).map(lambda parts: ".".join(map(str, parts)))


def distinct(items: st.SearchStrategy[T], most: int, least: int = 0) -> st.SearchStrategy[tuple[T, ...]]:
    """Tuples without repetition, sorted."""
    return st.lists(items, unique=True, min_size=least, max_size=most).map(lambda found: tuple(sorted(found)))  # type: ignore[type-var]


ARTIFACTS = st.builds(Artifact, name=SLASHED_NAMES, kind=st.sampled_from(KINDS), fsverity=DIGESTS, length=LENGTHS)
ORIGINS = st.builds(Origin.of, NAMES, st.integers(1, MAX_NUMBER))
REFERENCE_VALUES = st.builds(ReferenceValue, component=SLASHED_NAMES, fsverity=DIGESTS, origin=st.none() | ORIGINS)
POLICY_KEYS = st.builds(PolicyKey, x=DIGESTS, y=DIGESTS)


@st.composite
def signed_policies(draw: st.DrawFn) -> SignedPolicy:
    """A policy with a random signature."""
    entry = draw(st.sampled_from(("fresh", "switch")))
    indexes = draw(distinct(st.integers(0, 23), 3, 1))
    return SignedPolicy(
        entry=entry,
        predecessor=0 if entry == "fresh" else draw(NUMBERS),
        epoch=draw(NUMBERS),
        pcrs=tuple((index, draw(DIGESTS)) for index in indexes),
        signature=draw(st.binary(min_size=64, max_size=64)),
    )


@st.composite
def waves(draw: st.DrawFn) -> tuple[Wave, ...]:
    """Steps that rise in both and end with everybody."""
    afters = draw(distinct(st.integers(0, 86_400), 4, 1))
    shares = draw(distinct(st.integers(1, HOSTS - 1), len(afters) - 1, len(afters) - 1))
    return tuple(Wave(after=after, share=share) for after, share in zip(afters, (*shares, HOSTS), strict=True))


@st.composite
def releases(draw: st.DrawFn, authority: str | None = None, channel: str | None = None) -> Release:
    """A platform or workload release that is consistent in itself."""
    authority = authority or draw(st.sampled_from(("platform", "workload")))
    platform = authority == "platform"
    bounds = draw(st.tuples(NUMBERS, NUMBERS).map(sorted))
    urgent = draw(st.booleans())
    artifacts = tuple(draw(st.lists(ARTIFACTS, min_size=1, max_size=3, unique_by=lambda item: item.name)))
    reference = tuple(draw(st.lists(REFERENCE_VALUES, min_size=1, max_size=3, unique_by=lambda item: item.component)))
    if platform:
        # Whatever is started from is measured.
        named = {value.component for value in reference}
        images = [item for item in artifacts if item.kind == "vmm-image" and item.name not in named]
        reference += tuple(ReferenceValue(component=item.name, fsverity=item.fsverity) for item in images)
    else:
        artifacts = tuple(replace(item, kind="image") if item.kind == "vmm-image" else item for item in artifacts)
    return Release(
        channel=channel or draw(NAMES),
        authority=authority,
        number=draw(NUMBERS),
        epoch=draw(NUMBERS),
        minimum_agent=draw(VERSIONS),
        import_days=draw(st.integers(0, 3660)),
        accepts=(0, 0) if platform else (bounds[0], bounds[1]),
        artifacts=artifacts,
        reference=reference if platform else (),
        policy_keys=tuple(draw(st.lists(POLICY_KEYS, min_size=1, max_size=2))) if platform else (),
        policies=tuple(draw(st.lists(signed_policies(), min_size=1, max_size=2))) if platform else (),
        refused=draw(distinct(DIGESTS, 2)),
        waves=() if urgent else draw(st.just(()) | waves()),
        urgent=urgent,
    )


@st.composite
def generations(draw: st.DrawFn) -> Generation:
    """One platform release and some workload releases."""
    channels = draw(distinct(NAMES, 3, 1))
    platform = draw(st.sampled_from(channels))
    return Generation(
        number=draw(NUMBERS),
        releases=tuple(
            draw(releases("platform" if channel == platform else "workload", channel)).encode() for channel in channels
        ),
        stale=draw(st.booleans()),
    )


def host_statuses() -> st.SearchStrategy[HostStatus]:
    """Statuses of hosts."""
    return st.builds(
        HostStatus,
        time=TIMES,
        agent=st.just("0.1.0"),
        host=st.just("") | NAMES,
        channels=st.sets(NAMES, max_size=4).map(sorted).map(tuple),
        releases=st.dictionaries(NAMES, NUMBERS, max_size=4).map(lambda numbers: tuple(sorted(numbers.items()))),
        artifacts=st.sets(DIGESTS, max_size=4).map(sorted).map(tuple),
    )


@st.composite
def bundle_indexes(draw: st.DrawFn) -> BundleIndex:
    """Entries without gaps."""
    folder = st.sampled_from(("metadata", "targets", "blobs"))
    names = draw(distinct(st.tuples(folder, _joined(LOWER, MIDDLE, 8)).map("/".join), 4, 1))
    entries, offset = [], 0
    for name in names:
        length = draw(st.integers(0, 2**30))
        entries.append(BundleEntry(name=name, offset=offset, length=length))
        offset += length
    return BundleIndex(entries=tuple(entries))


@st.composite
def host_files(draw: st.DrawFn) -> HostFiles:
    """A list of files of some packages."""
    versions = st.text(string.ascii_letters + string.digits + ".+:~-", min_size=1, max_size=12)
    return HostFiles(
        root=draw(st.sampled_from(("host", "site"))),
        packages=draw(distinct(st.tuples(_joined(LOWER, LOWER + "+.-", 10), versions), 2)),
        files=tuple(
            HostFile(path=path, fsverity=draw(DIGESTS), length=draw(LENGTHS)) for path in draw(distinct(PATHS, 4, 1))
        ),
    )


@st.composite
def site_baselines(draw: st.DrawFn) -> SiteBaseline:
    """What a site approved: some values of some things."""
    subjects = sorted(draw(distinct(NAMES, 4, 1)))
    return SiteBaseline(entries=tuple((subject, tuple(sorted(draw(distinct(DIGESTS, 3, 1))))) for subject in subjects))


@st.composite
def host_images(draw: st.DrawFn) -> HostImage:
    """A host image that is consistent in itself."""
    root_hash, authority = draw(DIGESTS), draw(DIGESTS)
    variables = tuple((name, draw(DIGESTS)) for name in VARIABLES)
    states = [variables, *(tuple((n, draw(DIGESTS)) for n in VARIABLES) for _ in range(draw(st.integers(0, 2))))]
    names = [".linux", ".cmdline", ".initrd", *draw(distinct(_joined(".", LOWER + "_", 14, LOWER), 2))]
    phases = st.lists(st.sampled_from(("enter-initrd", "sysinit", "ready")), unique=True).map(":".join)
    return HostImage(
        boot_application=draw(DIGESTS),
        sections=tuple((name, draw(DIGESTS)) for name in dict.fromkeys(draw(st.permutations(names)))),
        command_line=f"{draw(st.sampled_from(('', 'quiet ')))}roothash={root_hash}",
        phases=draw(distinct(phases, 3, 1)),
        variables=variables,
        authority=authority,
        root_hash=root_hash,
        firmware=draw(distinct(DIGESTS, 2)),
        files=tuple(
            ImageFile(path=path, fsverity=draw(DIGESTS), sha256=draw(DIGESTS)) for path in draw(distinct(PATHS, 3, 1))
        ),
        firmware_events=tuple(
            FirmwareEvents(name=name, sha256=(draw(DIGESTS), *draw(st.lists(DIGESTS, max_size=2)), name_digest(name)))
            for name in draw(distinct(NAMES, 2))
        ),
        secure_boot=tuple(
            SecureBootState(
                variables=tuple((name, data, draw(DIGESTS)) for name, data in state),
                authority=draw(DIGESTS) if state is not variables else authority,
                authority_event=draw(DIGESTS),
            )
            for state in dict.fromkeys(states)
        )
        if draw(st.booleans())
        else (),
    )


def name_digest(name: str) -> str:
    """A digest that only this name has."""
    return hashlib.sha256(name.encode()).hexdigest()


SHORT_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
ADDRESSES = st.integers(1, 250).map(lambda last: f"10.1.0.{last}")
NETWORK_USES = st.builds(NetworkUse, name=SHORT_NAMES, address=st.just("") | ADDRESSES)
BASED_DISKS = st.builds(
    Disk,
    name=NAMES,
    image=DIGESTS,
    length=st.integers(1, MAX_LENGTH),
    disk_class=st.sampled_from([name for name in DISK_CLASSES if name not in IMAGELESS]),
)
BARE_DISKS = st.builds(
    Disk,
    name=NAMES,
    image=st.just(""),
    length=st.integers(1, MAX_SIZE_MIB).map(lambda size: size * MIB),
    disk_class=st.sampled_from(IMAGELESS),
)
# The first one is booted from.
DISKS = (
    st.tuples(BASED_DISKS, st.lists(BASED_DISKS | BARE_DISKS, max_size=2))
    .map(lambda drawn: (drawn[0], *drawn[1]))
    .filter(lambda disks: len({disk.name for disk in disks}) == len(disks))
)
DEFINITIONS = st.builds(
    VmDefinition,
    name=NAMES,
    uuid=UUIDS,
    title=TEXTS,
    machine=st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda parts: f"pc-q35-{parts[0]}.{parts[1]}"),
    vcpus=st.integers(1, 255),
    memory_mib=st.integers(64, 2**22),
    disks=DISKS,
    guardians=st.sampled_from((GUARDIANS, GUARDIANS[:1])),
    restart=st.sampled_from(RESTARTS),
    introspection=st.one_of(st.none(), st.just(""), DIGESTS),
    networks=st.lists(NETWORK_USES, max_size=2, unique_by=lambda use: use.name).map(tuple),
    devices=distinct(SHORT_NAMES, 2),
)
SECURITY_POLICIES = st.builds(
    SecurityPolicy,
    allow=distinct(st.sampled_from(ALLOWANCES), 4),
    max_vcpus=st.integers(1, 255),
    max_memory_mib=st.integers(64, 2**22),
    local=st.sampled_from(LOCAL),
    kernel_required=distinct(st.sampled_from(("iommu=*", "lockdown=integrity", "nohibernate")), 3),
    kernel_denied=distinct(st.sampled_from(("init=*", "systemd.debug?shell*")), 2),
    warn_only=distinct(SLASHED_NAMES, 2),
    verdict_seconds=st.integers(SHORTEST, LONGEST),
    collect=st.sampled_from((None, (), COLLECTED[:1], COLLECTED)),
    digests=st.sampled_from(HOW_OFTEN),
    disks=distinct(st.sampled_from(DISK_CLASSES), len(DISK_CLASSES)),
    networks=distinct(st.sampled_from(NETWORK_KINDS), 2),
    devices=distinct(st.sampled_from(DEVICE_KINDS), 3),
    drift=st.sampled_from(DRIFT),
    revocation=st.builds(
        Revocation,
        act=st.sampled_from(ACTS),
        seconds=st.integers(0, LONGEST_NOTICE),
        message=st.sampled_from(("", "Save.")),
    ),
)


@st.composite
def host_devices(draw: st.DrawFn) -> HostDevices:
    """One of each kind, at most."""
    made = []
    for number, name in enumerate(draw(distinct(SHORT_NAMES, 3))):
        kind = DEVICE_KINDS[number]
        of_kind = (
            {"image": draw(DIGESTS), "length": draw(st.integers(1, MAX_LENGTH))}
            if kind == MEDIA
            else {"address": "0000:03:00.1"}
            if kind == PCI
            else {"vendor": "0951", "product": "1666", "serial": draw(st.sampled_from(("", "A-1")))}
        )
        made.append(HostDevice(name=name, kind=kind, owner=draw(st.just("") | NAMES), **of_kind))
    return HostDevices(devices=tuple(made))


@st.composite
def host_networks(draw: st.DrawFn) -> HostNetworks:
    """Networks of both kinds, side by side."""
    made = [
        HostNetwork(name=name, kind=NAT, subnet=f"10.{number}.0.0/24", dhcp=draw(st.booleans()))
        if draw(st.booleans())
        else HostNetwork(name=name, kind=PEERS)
        for number, name in enumerate(draw(distinct(SHORT_NAMES, 3)))
    ]
    return HostNetworks(seed=draw(DIGESTS), networks=tuple(made))


@st.composite
def state_records(draw: st.DrawFn) -> StateRecord:
    """A record of each class in each state."""
    sealed, state = draw(st.booleans()), draw(st.sampled_from(RECORD_STATES))
    marks = st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE)
    has_image = draw(st.booleans()) if sealed and state == "open" else state != "new"
    return StateRecord(
        vm=draw(UUIDS),
        disk=draw(NAMES),
        disk_class="sealed" if sealed else "persistent",
        state=state,
        number=draw(NUMBERS),
        base=draw(DIGESTS) if sealed else "",
        image=draw(DIGESTS) if has_image else "",
        mark=b"" if sealed else draw(marks),
        next_mark=draw(marks) if state == "open" and not sealed else b"",
        mac=draw(st.binary(min_size=MAC_SIZE, max_size=MAC_SIZE)),
    )


ENDORSEMENT_KEYS = st.builds(EndorsementKey, public=BLOBS, certificate=BLOBS)
IDENTITIES = st.builds(Identity, eks=st.lists(ENDORSEMENT_KEYS, max_size=2).map(tuple), chain=BLOBS, ak=BLOBS)
CHALLENGES = st.builds(Challenge, ek=BLOBS, ak_name=st.binary(max_size=34), credential=BLOBS, seed=BLOBS)
EVIDENCE = st.builds(
    Evidence,
    attest=BLOBS,
    signature=BLOBS,
    ak=BLOBS,
    boot_log=BLOBS,
    ima=BLOBS,
    cel=BLOBS,
    baseline=BLOBS,
    command_line=BLOBS,
    identity=BLOBS,
)
BASELINES = st.builds(
    Baseline,
    sequence=st.integers(1, 2**60),
    time=TIMES,
    actor=FULL_TEXTS,
    channel=NAMES,
    number=NUMBERS,
    entries=st.dictionaries(SLASHED_NAMES, DIGESTS, min_size=1, max_size=3).map(lambda e: tuple(sorted(e.items()))),
)
SIGNED_BASELINES = st.builds(
    SignedBaseline,
    baseline=BLOBS,
    signature=BLOBS,
    public=BLOBS,
    channel=NAMES,
    key=POLICY_KEYS,
    attest=BLOBS,
    certification=BLOBS,
)
LOCAL_LISTINGS = st.builds(
    LocalListing,
    files=st.lists(
        st.builds(ListedFile, path=FULL_TEXTS, fsverity=DIGESTS, rights=TEXTS),
        max_size=3,
        unique_by=lambda entry: entry.path,
    ).map(lambda files: tuple(sorted(files, key=lambda entry: entry.path))),
)


@st.composite
def event_documents(draw: st.DrawFn) -> MeasuredEvent:
    """An event with what its kind must have, and nothing that it must not."""
    event = draw(st.sampled_from(EVENTS))
    local = event in OF_A_VM and draw(st.booleans())
    may = st.none() if event == "host" or local else ORIGINS if event in FROM_A_RELEASE else st.none() | ORIGINS
    return MeasuredEvent(
        event=event,
        subject=f"{PSEUDONYM}{draw(NAMES)}" if local else draw(SLASHED_NAMES),
        fsverity=draw(DIGESTS),
        origin=draw(may),
        vtpm=draw(DIGESTS) if event == "vm-start" else "",
    )


EVENT_DOCUMENTS = event_documents()
LOCAL_VMS = st.builds(
    LocalVm,
    name=NAMES,
    uuid=UUIDS,
    fsverity=DIGESTS,
    length=st.integers(1, 100_000),
    number=st.just(1),
    salt=st.binary(min_size=SALT, max_size=SALT),
)
LOCAL_IMAGES = st.builds(
    LocalImage,
    name=NAMES,
    fsverity=DIGESTS,
    length=st.integers(1, MAX_LENGTH),
    source=st.sampled_from(("raw", "qcow2")),
)
LOCAL_SETS = st.builds(
    LocalSet,
    number=NUMBERS,
    time=TIMES,
    actor=FULL_TEXTS,
    images=st.lists(LOCAL_IMAGES, max_size=2, unique_by=lambda image: image.name).map(
        lambda images: tuple(sorted(images, key=lambda image: image.name))
    ),
    vms=st.lists(LOCAL_VMS, max_size=2, unique_by=(lambda vm: vm.name, lambda vm: vm.uuid)).map(
        lambda vms: tuple(sorted(vms, key=lambda vm: vm.name))
    ),
)
SIGNED_LOCAL_SETS = st.builds(
    SignedLocalSet,
    content=BLOBS,
    signature=BLOBS,
    public=BLOBS,
    channel=NAMES,
    key=POLICY_KEYS,
    attest=BLOBS,
    certification=BLOBS,
)


@st.composite
def vm_sets(draw: st.DrawFn) -> VmSet:
    """A set whose images are among its parts."""
    images = draw(st.lists(LOCAL_IMAGES, max_size=2, unique_by=lambda image: image.name)) if draw(st.booleans()) else []
    disks = draw(distinct(NAMES, 2))
    parts = [VmPart(name=f"image/{one.name}", length=one.length, fsverity=one.fsverity) for one in images]
    parts += [
        VmPart(name=name, length=draw(LENGTHS), fsverity=draw(DIGESTS))
        for name in ("vtpm", *(f"{kind}/{disk}" for disk in disks for kind in ("disk", "record")))
    ]
    return VmSet(
        id=draw(UUIDS),
        number=draw(st.integers(1, MAX_SET_NUMBER)),
        time=draw(TIMES),
        authority="local" if images else draw(st.sampled_from(WHOSE)),
        definition=draw(BLOBS),
        key=draw(st.binary(min_size=32, max_size=32)),
        endorsement=draw(DIGESTS),
        parts=tuple(sorted(parts, key=lambda part: part.name)),
        images=tuple(images),
    )


CHECKPOINTS = vm_sets().map(
    lambda made: Checkpoint(
        vm=made.id,
        number=made.number % MAX_NUMBER + 1,
        time=made.time,
        definition=made.endorsement,
        endorsement=made.endorsement,
        parts=tuple(part for part in made.parts if not part.name.startswith("image/")),
        mac=made.key,
    )
)
SIGNED_VM_SETS = st.builds(
    SignedVmSet,
    content=BLOBS,
    ak=BLOBS,
    signature=BLOBS,
    public=BLOBS,
    channel=NAMES,
    key=POLICY_KEYS,
    attest=BLOBS,
    certification=BLOBS,
)
FINDINGS = st.builds(
    Finding,
    check=SLASHED_NAMES,
    subject=FULL_TEXTS,
    outcome=st.sampled_from(OUTCOMES),
    expected=TEXTS,
    found=TEXTS,
    authority=st.sampled_from(AUTHORITIES),
    kept=st.sampled_from(("", *KEPT)),
    taken=st.sampled_from(("", *TAKEN)),
)
VERDICTS = st.builds(
    Verdict,
    subject=FULL_TEXTS,
    level=st.sampled_from(LEVELS),
    time=TIMES,
    findings=st.lists(FINDINGS, max_size=3).map(tuple),
    expires=TIMES,
)
NAMED_TEXTS = st.dictionaries(SLASHED_NAMES, TEXTS, max_size=3).map(lambda found: tuple(sorted(found.items())))
AUDIT_RECORDS = st.builds(
    AuditRecord,
    sequence=st.integers(1, 2**60),
    time=TIMES,
    boot=UUIDS,
    event=SLASHED_NAMES,
    outcome=st.sampled_from(AUDIT_OUTCOMES),
    subject=TEXTS,
    actor=FULL_TEXTS,
    details=NAMED_TEXTS,
    previous=DIGESTS,
)
JOURNALS = st.builds(
    UpdateJournal,
    state=st.sampled_from(UPDATE_STATES),
    generation=st.integers(0, MAX_NUMBER),
    previous=st.integers(0, MAX_NUMBER),
    refused=distinct(DIGESTS, 2),
)
FLOOR_RELEASES = st.dictionaries(NAMES, NUMBERS, max_size=3).map(lambda found: tuple(sorted(found.items())))
FLOORS = st.builds(
    Floor,
    time=TIMES,
    root=NUMBERS,
    releases=FLOOR_RELEASES,
)


@st.composite
def sealed_keys(draw: st.DrawFn) -> SealedKey:
    """A sealed key, and perhaps the same key for other values of its local PCRs."""
    local = tuple(sorted(draw(st.sets(st.integers(0, 23), max_size=3))))
    states = draw(st.sets(st.tuples(*(st.tuples(st.just(i), DIGESTS) for i in local)), max_size=2)) if local else ()
    return SealedKey(
        public=draw(BLOBS),
        private=draw(BLOBS),
        channel=draw(NAMES),
        epoch=draw(NUMBERS),
        counter=draw(st.integers(0, 2**62)),
        key=draw(POLICY_KEYS),
        local_pcrs=local,
        ahead=tuple(SealedAhead(public=draw(BLOBS), private=draw(BLOBS), pcrs=pcrs) for pcrs in sorted(states)),
        floor=draw(st.none() | st.builds(SealedFloor, root=NUMBERS, releases=FLOOR_RELEASES)),
    )


PURPOSE_KEYS = st.builds(
    PurposeKey,
    purpose=st.just("audit"),
    public=BLOBS,
    private=BLOBS,
    channel=NAMES,
    key=POLICY_KEYS,
    attest=BLOBS,
    signature=BLOBS,
)
SIGNED_HEADS = st.builds(
    SignedHead, head=st.builds(AuditHead, sequence=st.integers(1, 2**60), hash=DIGESTS), signature=BLOBS
)
NONCES = st.binary(min_size=12, max_size=12)
HASHES = st.binary(min_size=32, max_size=32)
WRAPPED_KEYS = st.builds(WrappedVmKey, uuid=UUIDS, guardian=st.just("tpm"), nonce=NONCES, ciphertext=BLOBS) | st.builds(
    WrappedVmKey,
    uuid=UUIDS,
    guardian=st.just("recovery"),
    nonce=NONCES,
    ciphertext=BLOBS,
    key=DIGESTS,
    sender=st.binary(min_size=65, max_size=65),
    check=HASHES,
)
RECOVERY_KEYS = st.builds(
    lambda public, created, seal: RecoveryKey(
        id=hashlib.sha256(public).hexdigest(), public=public, created=created, seal=seal
    ),
    BLOBS,
    TIMES,
    st.just(b"") | HASHES,
)
RECOVERED_KEYS = st.builds(
    RecoveredKeys,
    recovery=DIGESTS,
    keys=st.lists(
        st.builds(RecoveredKey, uuid=UUIDS, copy=DIGESTS, key=HASHES),
        min_size=1,
        max_size=3,
        unique_by=lambda item: item.uuid,
    ).map(tuple),
)
SEEN_HOSTS = st.builds(
    SeenHost,
    ak=DIGESTS,
    nonce=DIGESTS,
    platform=NUMBERS,
    clock=st.integers(0, CLOCK),
    reset_count=st.integers(0, COUNTS),
    restart_count=st.integers(0, COUNTS),
    boot_log=DIGESTS,
    cel=DIGESTS,
    cel_length=st.integers(0, 8_000_000),
)
WAVE_PLACES = st.builds(WavePlace, place=st.integers(0, HOSTS - 1))
PAUSES = (
    st.tuples(TIMES, TIMES, FULL_TEXTS, FULL_TEXTS)
    .filter(lambda parts: parts[0] != parts[1])
    .map(lambda parts: UpdatePause(since=min(parts[:2]), until=max(parts[:2]), actor=parts[2], reason=parts[3]))
)
STATE_FORMS = st.builds(
    StateForm,
    form=st.integers(1, 1_000),
    builds=st.lists(st.tuples(DIGESTS, st.integers(1, 1_000)), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
)
TRIALS = st.builds(
    UpdateTrial,
    generation=NUMBERS,
    begun=st.integers(0, 1_000),
    worked=st.lists(st.just("libvirt") | NAMES.map("vm/{}".format), max_size=3, unique=True).map(sorted).map(tuple),
)
CONTACTS = st.builds(UpdateContact, time=TIMES, heard=st.booleans(), told=st.booleans())
RUNNING_VMS = st.builds(
    RunningVm,
    name=NAMES,
    channel=NAMES,
    number=NUMBERS,
    definition=DIGESTS,
    images=st.dictionaries(NAMES, DIGESTS, max_size=3).map(lambda found: tuple(found.items())),
    platform=NUMBERS,
    reference=DIGESTS,
)
REQUESTS = st.builds(Request, verb=SLASHED_NAMES, arguments=NAMED_TEXTS, actor=FULL_TEXTS)


@st.composite
def wanted_signatures(draw: st.DrawFn) -> Wanted:
    """Keys, and a threshold that they can reach."""
    keys = draw(distinct(DIGESTS, 3, 1))
    return Wanted(threshold=draw(st.integers(1, len(keys))), keys=keys)


SIGNING_PARTS = st.builds(
    SigningPart,
    role=NAMES.map(lambda name: f"releases-{name}"),
    previous=DIGESTS,
    metadata=BLOBS,
    wanted=st.lists(wanted_signatures(), min_size=1, max_size=2).map(tuple),
)
SIGNING_REQUESTS = st.builds(
    SigningRequest,
    purpose=FULL_TEXTS,
    parts=st.lists(SIGNING_PARTS, min_size=1, max_size=3, unique_by=lambda part: part.role).map(tuple),
    files=st.dictionaries(
        st.tuples(NAMES, DIGESTS, NUMBERS).map(lambda t: f"targets/releases/{t[0]}/{t[1]}.{t[2]}.json"),
        BLOBS,
        max_size=2,
    ).map(lambda found: tuple(found.items())),
)

VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
"""Anything that has a canonical form."""

OBJECTS: st.SearchStrategy[dict[str, Json]] = st.dictionaries(st.text(max_size=10), VALUES, max_size=4)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    """An answer or an error."""
    code = draw(st.sampled_from(Exit))
    return Response(exit=int(code), error=draw(FULL_TEXTS) if code else "", result=draw(OBJECTS))


@st.composite
def assignments(draw: st.DrawFn) -> Assignment:
    """What one host may follow."""
    bounds = st.tuples(NUMBERS, NUMBERS).map(sorted)
    return Assignment(
        host=draw(NAMES),
        channels=tuple(
            Range(channel=channel, lowest=lowest, highest=highest)
            for channel in draw(distinct(NAMES, 3))
            for lowest, highest in [draw(bounds)]
        ),
        locked=draw(st.booleans()),
        expires=draw(TIMES),
    )


ENROLLED = st.builds(
    Enrolled,
    fleet=NAMES,
    host=UUIDS,
    name=NAMES,
    state=st.sampled_from(ENROLMENT_STATES),
    result_key=BLOBS,
    interval=st.integers(*SECONDS),
)
ENROLMENT_PROOFS = st.builds(
    EnrolmentProof,
    token=DIGESTS,
    ticket=BLOBS,
    identity=BLOBS,
    key=BLOBS,
    attest=BLOBS,
    signature=BLOBS,
    name=NAMES | st.just(""),
)
APPRAISED = st.builds(
    Appraised,
    status=st.sampled_from(STATUSES),
    level=st.sampled_from(FLEET_LEVELS),
    time=TIMES,
    expires=st.integers(1, 2**41),
    result=st.just("e30.e30.AA"),
)
FLEET_DOCUMENTS: dict[type[Document], st.SearchStrategy[Any]] = {
    Appraised: APPRAISED,
    AuditReceipt: st.builds(AuditReceipt, sequence=st.integers(0, 2**60), hash=DIGESTS, signed=st.integers(0, 2**60)),
    AuditUpload: st.builds(AuditUpload, records=st.lists(BLOBS, max_size=3).map(tuple), head=BLOBS, key=BLOBS),
    Enrolled: ENROLLED,
    EnrolmentOffer: st.builds(EnrolmentOffer, fleet=NAMES, ticket=BLOBS, challenge=BLOBS),
    EnrolmentProof: ENROLMENT_PROOFS,
    EnrolmentRequest: st.builds(EnrolmentRequest, token=DIGESTS, identity=BLOBS),
    Membership: st.builds(
        Membership, url=st.just("https://fleet.example"), ca=BLOBS, enrolled=BLOBS, public=BLOBS, private=BLOBS
    ),
    NonceGrant: st.builds(NonceGrant, nonce=BLOBS, time=TIMES),
    Refusal: st.builds(Refusal, code=st.just("FL020"), error=TEXTS.filter(bool), exit=st.integers(1, 255)),
}
"""Between hosts and a fleet."""

DOCUMENTS: dict[type[Document], st.SearchStrategy[Any]] = {
    **FLEET_DOCUMENTS,
    Assignment: assignments(),
    Baseline: BASELINES,
    LocalSet: LOCAL_SETS,
    SignedLocalSet: SIGNED_LOCAL_SETS,
    VmSet: vm_sets(),
    Checkpoint: CHECKPOINTS,
    SignedVmSet: SIGNED_VM_SETS,
    SignedBaseline: SIGNED_BASELINES,
    LocalListing: LOCAL_LISTINGS,
    AuditRecord: AUDIT_RECORDS,
    AuditSent: st.builds(
        AuditSent, head=st.builds(AuditHead, sequence=st.integers(0, 2**60), hash=DIGESTS), time=TIMES
    ),
    BootState: st.builds(BootState, boot=UUIDS, resets=st.integers(0, 2**32 - 1), restarts=st.integers(0, 2**32 - 1)),
    BundleIndex: bundle_indexes(),
    Challenge: CHALLENGES,
    HostDevices: host_devices(),
    HostNetworks: host_networks(),
    HostStatus: host_statuses(),
    Evidence: EVIDENCE,
    Floor: FLOORS,
    Generation: generations(),
    HostFiles: host_files(),
    SiteBaseline: site_baselines(),
    HostImage: host_images(),
    Identity: IDENTITIES,
    MeasuredEvent: EVENT_DOCUMENTS,
    Release: releases(),
    Request: REQUESTS,
    Response: responses(),
    RunningVm: RUNNING_VMS,
    PurposeKey: PURPOSE_KEYS,
    SealedKey: sealed_keys(),
    SignedHead: SIGNED_HEADS,
    SeenHost: SEEN_HOSTS,
    SecurityPolicy: SECURITY_POLICIES,
    StateRecord: state_records(),
    TpmKey: st.builds(TpmKey, name=NAMES, public=BLOBS, private=BLOBS),
    UpdateContact: CONTACTS,
    UpdateTrial: TRIALS,
    StateForm: STATE_FORMS,
    SigningRequest: SIGNING_REQUESTS,
    UpdateJournal: JOURNALS,
    UpdatePause: PAUSES,
    Verdict: VERDICTS,
    VmDefinition: DEFINITIONS,
    WavePlace: WAVE_PLACES,
    VmTpm: st.builds(VmTpm, uuid=UUIDS, endorsement=DIGESTS),
    WrappedVmKey: WRAPPED_KEYS,
    RecoveryKey: RECOVERY_KEYS,
    RecoveredKeys: RECOVERED_KEYS,
}
"""A strategy for each type of document."""


def damaged(data: bytes) -> Iterator[bytes]:
    """The bytes with one bit flipped, one byte inserted, one taken out, or cut off: at up to some 1,000 places."""
    for where in range(0, len(data), 1 + len(data) // 1_000):
        yield data[:where] + bytes([data[where] ^ (1 << (where % 8))]) + data[where + 1 :]
        yield data[:where] + b' 0"}],\\\x00\xff'[where % 9 :][:1] + data[where:]
        yield data[:where] + data[where + 1 :]
        yield data[:where]


def chain(count: int) -> list[AuditRecord]:
    """A whole trail of ``count`` records."""
    found: list[AuditRecord] = []
    for sequence in range(1, count + 1):
        found.append(
            AuditRecord(
                sequence=sequence,
                time=1_800_000_000 + sequence,
                boot="b9ec1f26-68a9-4c3f-9a51-1a2b3c4d5e6f",
                event="vm-start",
                outcome="refused",
                subject=f"guest{sequence}",
                actor="uid 0",
                details=(("check", "disk-digest"),),
                previous=found[-1].hash() if found else GENESIS,
            )
        )
    return found


def places(value: Json, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value inside a decoded document, the whole included."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


def lookup(value: Any, at: tuple[str | int, ...]) -> Any:
    """What is at a place."""
    for key in at:
        value = value[key]
    return value
