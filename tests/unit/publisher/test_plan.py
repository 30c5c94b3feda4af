# SPDX-License-Identifier: Apache-2.0
"""A planned release says what its hosts will measure, and opens their keys in exactly those states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from content.fsverity import Measured, digest_bytes
from documents.canonical import encode
from documents.definition import Disk, VmDefinition
from documents.host_image import VARIABLES, HostImage, ImageFile
from documents.release import Origin, PolicyKey, Release
from documents.security_policy import SecurityPolicy
from documents.waves import Wave
from keys.tpm_policy import signable
from measure.boot import pcr11
from measure.policy import verify_signed_policy
from publisher.errors import PlanRefused
from publisher.plan import COMPONENTS, Versioned, WorkloadInputs, plan_platform, plan_workload, require_components
from publisher.recipe import Terms

TERMS = Terms(channel="platform", epoch=1, minimum_agent="0.1.0", import_days=30, refused=())
WORK = replace(TERMS, channel="workload")
IDENTITY = "1d" * 32
IMAGE = Measured(fsverity="ab" * 32, length=4096)
VM = VmDefinition(
    name="demo",
    uuid="00000000-0000-4000-8000-000000000001",
    title="",
    machine="pc-q35-7.2",
    vcpus=2,
    memory_mib=512,
    disks=(Disk(name="root", image=IMAGE.fsverity, length=IMAGE.length, disk_class="readonly"),),
    guardians=("tpm",),
)
HOST_IMAGE = HostImage(
    boot_application="b0" * 32,
    sections=((".linux", "01" * 32), (".cmdline", "02" * 32), (".initrd", "03" * 32)),
    command_line=f"quiet roothash={'04' * 32}",
    phases=("sysinit", "sysinit:ready"),
    variables=tuple((name, "05" * 32) for name in VARIABLES),
    authority="06" * 32,
    root_hash="04" * 32,
    firmware=(),
    files=(ImageFile(path="/usr/bin/x", fsverity="07" * 32, sha256="08" * 32),),
)
INPUTS = WorkloadInputs(accepts=(1, 9), images=(("demo", IMAGE),), definitions=(VM,))


class MemorySigner:
    """A policy signer for tests: its key lives and dies with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def public(self) -> PolicyKey:
        numbers = self._key.public_key().public_numbers()
        return PolicyKey(x=f"{numbers.x:064x}", y=f"{numbers.y:064x}")

    def sign(self, pcrs: Mapping[int, str], channel: str, epoch: int) -> bytes:
        message = signable(pcrs, channel, epoch)
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


SIGNER = MemorySigner()


def components(text: str) -> dict[str, Measured]:
    return {
        name: Measured(fsverity=hashlib.sha256(f"{name} {text}".encode()).hexdigest(), length=7)
        for name, _ in COMPONENTS
    }


def platform(
    number: int, *predecessors: Release, epoch: int = 1, image: HostImage | None = None, **terms: object
) -> Release:
    return plan_platform(
        replace(TERMS, epoch=epoch, **terms),  # type: ignore[arg-type]
        components(f"of {number}"),
        number,
        predecessors,
        IDENTITY,
        SIGNER,
        image,
    )


def extended(value: bytes, event: str, subject: str, fsverity: str, number: int) -> bytes:
    """PCR 13 after one event about what came with a release, written down independently of the code."""
    content = (
        f'{{"event":"{event}","fsverity":"{fsverity}","origin_version":"{number}","subject":"{subject}",'
        f'"target":"releases/platform/{number}.json","type":"vmgate.event","version":1}}'
    ).encode()
    return hashlib.sha256(value + hashlib.sha256(content).digest()).digest()


def booted(release: Release, value: bytes = bytes(32)) -> bytes:
    for component, fsverity in [(v.component, v.fsverity) for v in release.reference]:
        # The repository came with the first release, and everything else changes with each.
        number = 1 if component == "repository" else release.number
        value = extended(value, "component", component, fsverity, number)
    return value


def test_what_did_not_change_keeps_its_origin_and_so_measures_as_before() -> None:
    first = platform(1)
    same = plan_platform(TERMS, components("of 1"), 2, [first], IDENTITY, SIGNER)
    assert same.reference == first.reference
    one_new = components("of 1") | {"vmgate/hook": components("of 3")["vmgate/hook"]}
    third = plan_platform(TERMS, one_new, 3, [same, first], IDENTITY, SIGNER)
    origins = {value.component: value.origin for value in third.reference}
    assert origins.pop("vmgate/hook") == Origin.of("platform", 3)
    assert set(origins.values()) == {Origin.of("platform", 1)}
    # What comes back came anew: only the newest release is looked at.
    back = plan_platform(TERMS, components("of 1"), 4, [third, same, first], IDENTITY, SIGNER)
    assert back.reference[-2].origin == Origin.of("platform", 4)
    assert Release.parse(back.encode()) == back


def test_a_component_goes_by_its_own_version_where_it_has_one() -> None:
    parts = components("of 1")
    build = parts["vmgate/build"]
    parts["vmgate/build"] = Versioned(fsverity=build.fsverity, length=build.length, version="0.1.0")
    first = plan_platform(TERMS, parts, 3, [], IDENTITY, SIGNER)
    told = {value.component: value.origin for value in first.reference}
    assert told["vmgate/build"] == Origin(target="releases/platform/3.json", version="0.1.0")
    assert told["vmgate/hook"] == Origin(target="releases/platform/3.json", version="3")
    # The same bytes under another version are what they were.
    parts["vmgate/build"] = replace(parts["vmgate/build"], version="0.2.0")  # type: ignore[call-arg]
    assert plan_platform(TERMS, parts, 4, [first], IDENTITY, SIGNER).reference == first.reference


def test_a_release_after_one_that_told_no_origins_tells_them() -> None:
    first = platform(1)
    old = replace(first, reference=tuple(replace(value, origin=None) for value in first.reference))
    assert b"target" not in old.encode()
    second = plan_platform(TERMS, components("of 1"), 2, [old], IDENTITY, SIGNER)
    assert {value.origin for value in second.reference} == {Origin.of("platform", 2)}


def test_a_platform_release_is_measured_in_the_order_of_the_design() -> None:
    release = platform(1)
    assert [value.component for value in release.reference] == ["repository", *(name for name, _ in COMPONENTS)]
    assert release.reference[0].fsverity == IDENTITY
    assert {a.name: a.fsverity for a in release.artifacts} == {
        v.component: v.fsverity for v in release.reference if v.component != "repository"
    }
    purpose, policy = release.policies
    assert (purpose.entry, purpose.predecessor, purpose.epoch) == ("fresh", 0, 0)
    assert (policy.entry, policy.predecessor, policy.epoch) == ("fresh", 0, 1)
    assert policy.pcrs == ((13, booted(release).hex()),)
    verify_signed_policy(policy, release.policy_keys, "platform")


def test_each_state_has_a_policy_for_each_epoch_it_may_be_entered_from() -> None:
    first = platform(1)
    second = platform(2, first)
    third = platform(5, second, first, epoch=2)
    states = {(p.entry, p.predecessor, p.epoch): p.pcrs[0][1] for p in third.policies}
    entries = (("fresh", 0), ("switch", 1), ("switch", 2))
    assert set(states) == {(entry, number, epoch) for entry, number in entries for epoch in (0, 1, 2)}
    reference = digest_bytes(encode({"reference": [value.members() for value in third.reference]}))
    for old in (first, second):
        switched = booted(third, extended(booted(old), "vmm-switch", "platform/5", reference, 5)).hex()
        assert states["switch", old.number, 1] == states["switch", old.number, 2] == switched
    for policy in third.policies:
        verify_signed_policy(policy, third.policy_keys, "platform")


def test_a_host_image_is_no_component_but_keys_open_only_where_it_runs() -> None:
    without, release = platform(1), platform(1, image=HOST_IMAGE)
    assert release.reference == without.reference
    (artifact,) = release.of_kind("host-image")
    data = HOST_IMAGE.encode()
    assert (artifact.name, artifact.fsverity, artifact.length) == ("host/image", digest_bytes(data), len(data))
    assert release.artifacts == (*without.artifacts, artifact)
    vmm = booted(release).hex()
    assert {policy.pcrs for policy in release.policies} == {
        ((11, pcr11(HOST_IMAGE, phase)), (13, vmm)) for phase in HOST_IMAGE.phases
    }
    for policy in release.policies:
        verify_signed_policy(policy, release.policy_keys, "platform")


def test_a_live_switch_keeps_the_host_image() -> None:
    other = replace(HOST_IMAGE, boot_application="b1" * 32)
    old = platform(1, image=HOST_IMAGE)
    for image, entries in ((HOST_IMAGE, {"fresh", "switch"}), (other, {"fresh"}), (None, {"fresh"})):
        assert {policy.entry for policy in platform(2, old, image=image).policies} == entries
    assert {policy.entry for policy in platform(2, platform(1), image=HOST_IMAGE).policies} == {"fresh"}


def test_all_policies_of_a_host_image_fit_into_a_release() -> None:
    """Four phases, a fresh boot and two switches, and three epochs besides that of the purpose keys."""
    image = replace(HOST_IMAGE, phases=("", "sysinit", "sysinit:ready", "sysinit:ready:shutdown"))
    first = platform(1, image=image)
    second = platform(2, first, epoch=2, image=image)
    third = platform(3, first, second, epoch=3, image=image)
    assert len(third.policies) == 4 * 3 * 4
    assert Release.parse(third.encode()) == third


@settings(max_examples=30)
@given(numbers=st.lists(st.integers(1, 2**31), min_size=1, max_size=3, unique=True), epoch=st.integers(1, 2**31))
def test_any_plan_is_a_release_that_hosts_take(numbers: list[int], epoch: int) -> None:
    releases: list[Release] = []
    for number in sorted(numbers):
        releases.append(platform(number, *releases[-2:], epoch=epoch))
    for release in releases:
        assert Release.parse(release.encode()) == release


def test_waves_and_urgency_come_from_the_terms() -> None:
    waves = (Wave(after=3_600, share=10), Wave(after=86_400, share=1_000))
    assert platform(1, waves=waves).waves == waves
    assert platform(1, urgent=True).urgent
    assert plan_workload(replace(WORK, waves=waves), INPUTS, 1, ()).waves == waves
    with pytest.raises(PlanRefused, match="does not end with all hosts"):
        platform(1, waves=waves[:1])
    with pytest.raises(PlanRefused, match="no meaning in an urgent release"):
        platform(1, waves=waves, urgent=True)


def test_numbers_and_epochs_never_go_back() -> None:
    old = platform(3, epoch=4)
    with pytest.raises(PlanRefused, match="number 3 is not above 3"):
        platform(3, old, epoch=4)
    with pytest.raises(PlanRefused, match="epoch 3 is below 4"):
        platform(4, old, epoch=3)
    workload = plan_workload(replace(WORK, epoch=2), INPUTS, 2, [])
    with pytest.raises(PlanRefused, match="epoch 1 is below 2"):
        plan_workload(WORK, INPUTS, 3, [workload])


def test_a_channel_keeps_its_authority() -> None:
    with pytest.raises(PlanRefused, match="has platform releases"):
        plan_workload(TERMS, INPUTS, 2, [platform(1)])


def test_a_release_does_not_bring_what_it_refuses() -> None:
    with pytest.raises(PlanRefused, match="whose digest it refuses"):
        platform(1, refused=(components("of 1")["vmgate/hook"].fsverity,))
    with pytest.raises(PlanRefused, match="whose digest it refuses"):
        plan_workload(replace(WORK, refused=(IMAGE.fsverity,)), INPUTS, 1, [])


def test_an_empty_artifact_is_refused() -> None:
    found = components("of 1") | {"vmm/firmware-code": Measured(fsverity="00" * 32, length=0)}
    with pytest.raises(PlanRefused, match="vmm/firmware-code is empty"):
        plan_platform(TERMS, found, 1, [], IDENTITY, SIGNER)


def test_a_platform_has_all_its_components() -> None:
    found = components("of 1")
    del found["vmgate/hook"]
    with pytest.raises(ValueError, match="not the components"):
        plan_platform(TERMS, found, 1, [], IDENTITY, SIGNER)


def test_a_workload_release_brings_images_and_definitions() -> None:
    release = plan_workload(WORK, INPUTS, 7, [])
    assert [(a.name, a.kind) for a in release.artifacts] == [("image/demo", "image"), ("vm/demo", "definition")]
    assert release.artifacts[1].fsverity == digest_bytes(VM.encode())
    assert release.artifacts[1].length == len(VM.encode())
    assert (release.accepts, release.reference, release.policies) == ((1, 9), (), ())


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"definitions": ()}, "no VM"),
        ({"definitions": (VM, VM)}, "VM name demo is there 2 times"),
        ({"definitions": (VM, replace(VM, name="twin"))}, "VM UUID"),
        ({"images": (("demo", IMAGE), ("demo", IMAGE))}, "image demo is there 2 times"),
        ({"images": ()}, "disk root of demo is no image of the release"),
        ({"policies": (SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=512),)}, "wants 2 processors"),
        ({"policies": (SecurityPolicy(allow=(), max_vcpus=2, max_memory_mib=511),)}, "512 MiB"),
    ],
)
def test_a_workload_that_no_host_would_start_is_refused(changes: dict[str, object], cause: str) -> None:
    with pytest.raises(PlanRefused, match=cause):
        plan_workload(WORK, replace(INPUTS, **changes), 1, [])  # type: ignore[arg-type]


def test_one_accepted_platform_that_allows_a_vm_is_enough() -> None:
    small = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64)
    large = SecurityPolicy(allow=(), max_vcpus=2, max_memory_mib=512)
    assert plan_workload(WORK, replace(INPUTS, policies=(small, large)), 1, []).number == 1


def test_a_policy_warns_only_about_components() -> None:
    policy = SecurityPolicy(allow=(), max_vcpus=1, max_memory_mib=64, warn_only=("repository", "vmgate/hook"))
    require_components(policy)
    with pytest.raises(PlanRefused, match="vmm/hook"):
        require_components(replace(policy, warn_only=("vmgate/hook", "vmm/hook")))
