# SPDX-License-Identifier: Apache-2.0
"""The domain that libvirt is about to start is the signed one, or the difference is named."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree

from hypervisor.compare import MAX_DIFFERENCES, differences, live_differences

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"


def test_what_libvirt_made_of_it_is_the_same_domain(rendered: str, captured: bytes) -> None:
    assert differences(rendered, captured) == ()


def test_the_rendered_xml_is_the_same_domain(rendered: str) -> None:
    assert differences(rendered, rendered.encode()) == ()


# (XPath, attribute or None for the text, new value)
CHANGED = [
    ("/domain", "type", "kvm"),
    ("/domain/name", None, "other"),
    ("/domain/uuid", None, "22222222-2222-4222-8222-222222222223"),
    ("/domain/memory", None, "524288"),
    ("/domain/memory", "dumpCore", "on"),
    ("/domain/vcpu", None, "2"),
    ("/domain/os/type", "machine", "pc-i440fx-7.2"),
    ("/domain/os/loader", None, "/tmp/code.fd"),
    ("/domain/os/loader", "secure", "no"),
    ("/domain/os/loader", "readonly", "no"),
    ("/domain/os/nvram", None, "/tmp/vars.fd"),
    ("/domain/features/smm", "state", "off"),
    ("/domain/cpu/feature[@name='svm']", "policy", "require"),
    ("/domain/on_crash", None, "coredump-destroy"),
    ("/domain/on_reboot", None, "restart"),
    ("/domain/devices/emulator", None, "/tmp/qemu"),
    ("/domain/devices/disk/source", "file", "/tmp/disk.img"),
    ("/domain/devices/disk/driver", "type", "qcow2"),
    ("/domain/devices/disk/source/seclabel", "relabel", "yes"),
    ("/domain/devices/controller[@type='usb']", "model", "qemu-xhci"),
    ("/domain/devices/serial", "type", "file"),
    ("/domain/devices/serial/log", "file", "/etc/cron.d/x"),
    ("/domain/devices/console/log", "file", "/etc/cron.d/x"),
    ("/domain/devices/tpm/backend", "type", "passthrough"),
    ("/domain/devices/tpm/backend/encryption", "secret", "22222222-2222-4222-8222-222222222222"),
    ("/domain/devices/memballoon", "model", "virtio"),
    ("/domain/devices/rng/backend", None, "/dev/zero"),
    ("/domain/devices/input[@type='mouse']", "type", "passthrough"),
    ("/domain/devices/audio", "type", "alsa"),
]


@pytest.mark.parametrize(("place", "attribute", "value"), CHANGED)
def test_a_changed_value_is_named(
    rendered: str, prepared: bytes, place: str, attribute: str | None, value: str
) -> None:
    domain = etree.fromstring(prepared)
    (element,) = domain.xpath(place)
    if attribute is None:
        element.text = value
    else:
        element.set(attribute, value)
    found = differences(rendered, etree.tostring(domain))
    assert any(value in difference.found for difference in found)


ADDED = [
    ("/domain/devices", "<disk type='file'><source file='/etc/shadow'/><target dev='vdb' bus='virtio'/></disk>"),
    ("/domain/devices", "<interface type='user'/>"),
    ("/domain/devices", "<serial type='file'><source path='/etc/cron.d/x'/><target port='1'/></serial>"),
    ("/domain/devices", "<console type='unix'><source mode='bind' path='/tmp/s'/></console>"),
    ("/domain/devices", "<hostdev mode='subsystem' type='usb'/>"),
    ("/domain/devices", "<filesystem type='mount'><source dir='/'/><target dir='host'/></filesystem>"),
    ("/domain/devices", "<graphics type='vnc' listen='0.0.0.0'/>"),
    ("/domain/devices", "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"),
    ("/domain/devices", "<controller type='scsi' index='0'/>"),
    ("/domain/devices", "<controller type='sata' index='1'/>"),
    ("/domain/devices", "<controller type='pci' index='9' model='pcie-expander-bus'/>"),
    ("/domain/devices", "<watchdog model='itco' action='dump'/>"),
    ("/domain/devices", "<input type='evdev'><source dev='/dev/input/event0'/></input>"),
    ("/domain/devices/disk", "<shareable/>"),
    ("/domain/devices/disk", "<backingStore type='file'><source file='/etc/shadow'/></backingStore>"),
    ("/domain/devices/serial", "<source path='/etc/cron.d/x'/>"),
    ("/domain/os", "<kernel>/tmp/vmlinuz</kernel>"),
    ("/domain", "<memoryBacking><access mode='shared'/></memoryBacking>"),
    ("/domain", "<seclabel type='none'/>"),
    ("/domain", "<seclabel type='static' model='dac' relabel='yes'><label>+0:+0</label></seclabel>"),
    ("/domain", "<resource><partition>/other</partition></resource>"),
    ("/domain/cpu", "<feature policy='require' name='vmx'/>"),
    ("/domain/cpu", "<feature policy='disable' name='smep'/>"),
    ("/domain", f"<q:commandline xmlns:q='{QEMU}'><q:arg value='-s'/></q:commandline>"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "addition"), ADDED)
def test_an_addition_is_named(rendered: str, captured: bytes, place: str, addition: str) -> None:
    domain = etree.fromstring(captured)
    (parent,) = domain.xpath(place)
    parent.append(etree.fromstring(addition))
    assert differences(rendered, etree.tostring(domain))


REMOVED = [
    "/domain/memoryBacking/nosharepages",
    "/domain/os/loader",
    "/domain/os/nvram",
    "/domain/features/smm",
    "/domain/cpu/feature[@name='vmx']",
    "/domain/devices/disk",
    "/domain/devices/disk/readonly",
    "/domain/devices/disk/source/seclabel",
    "/domain/devices/serial/log",
    "/domain/devices/tpm",
    "/domain/devices/tpm/backend/encryption",
    "/domain/devices/rng",
    "/domain/devices/rng/rate",
    "/domain/devices/memballoon",
    "/domain/devices/controller[@type='usb']",
]


@pytest.mark.parametrize("place", REMOVED)
def test_what_is_missing_is_named(rendered: str, captured: bytes, place: str) -> None:
    domain = etree.fromstring(captured)
    (element,) = domain.xpath(place)
    element.getparent().remove(element)
    found = differences(rendered, etree.tostring(domain))
    assert "absent" in [difference.found for difference in found]


def test_no_single_change_to_what_was_rendered_goes_unnoticed(rendered: str) -> None:
    """Every attribute and text is changed and removed, every element removed and doubled, one at a time."""
    domain = etree.fromstring(rendered)
    unnoticed = [what for what, changed in _changes(domain) if not differences(rendered, changed)]
    # How strictly libvirt checks the processor is its own business; it says `full` once the guest runs.
    assert unnoticed == ["/domain/cpu/@check set", "/domain/cpu/@check removed"]


def _changes(domain: etree._Element):
    tree = domain.getroottree()
    for element in list(domain.iter()):
        place = tree.getpath(element)

        def changed(do, place: str = place) -> bytes:
            copy = deepcopy(domain)
            (target,) = copy.xpath(place)
            do(target)
            return etree.tostring(copy)

        for name in list(element.attrib):
            yield f"{place}/@{name} set", changed(lambda e, n=name: e.set(n, "changed"))
            yield f"{place}/@{name} removed", changed(lambda e, n=name: e.attrib.pop(n))
        yield f"{place}/@new set", changed(lambda e: e.set("new", "x"))
        yield f"{place} text", changed(lambda e: setattr(e, "text", "changed"))
        yield f"{place} child", changed(lambda e: etree.SubElement(e, "new"))
        if element is not domain:
            yield f"{place} tail", changed(lambda e: setattr(e, "tail", "changed"))
            yield f"{place} removed", changed(lambda e: e.getparent().remove(e))
            yield f"{place} doubled", changed(lambda e: e.addnext(deepcopy(e)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
@example(b"")
@example(b"<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>")
@example(b"<domain/>")
def test_whatever_comes_in_differs_and_nothing_else_happens(rendered: str, untrusted: bytes) -> None:
    assert differences(rendered, untrusted)


def test_an_endless_list_of_differences_has_an_end(rendered: str) -> None:
    flood = b"<domain>" + b"<x a='1'/>" * 9000 + b"</domain>"
    assert len(differences(rendered, flood)) == MAX_DIFFERENCES
    assert all(len(d.xpath + d.expected + d.found) <= 600 for d in differences(rendered, flood))


def _as_kvm(xml: str | bytes, cpu: str) -> str:
    """The same domain on KVM, with another processor."""
    domain = etree.fromstring(xml)
    domain.set("type", "kvm")
    old = domain.find("cpu")
    old.getparent().replace(old, etree.fromstring(cpu))
    return etree.tostring(domain, encoding="unicode")


ASKED = (
    "<cpu mode='host-model' check='partial'><feature policy='disable' name='svm'/>"
    "<feature policy='disable' name='vmx'/></cpu>"
)
BECAME = (
    "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC-Rome</model><vendor>AMD</vendor>"
    "<feature policy='require' name='x2apic'/><feature policy='disable' name='svm'/></cpu>"
)


def test_what_host_model_became_is_the_same_domain_while_it_runs(rendered: str, captured: bytes) -> None:
    asked, live = _as_kvm(rendered, ASKED), _as_kvm(captured, BECAME).encode()
    assert live_differences(asked, live) == ()
    assert differences(asked, live) != (), "before the start it is another one"
    assert live_differences(rendered, captured) == ()


def test_a_processor_that_has_what_was_switched_off_is_another_one(rendered: str, captured: bytes) -> None:
    nested = BECAME.replace("policy='disable' name='svm'", "policy='require' name='svm'")
    found = live_differences(_as_kvm(rendered, ASKED), _as_kvm(captured, nested).encode())
    assert {one.xpath.partition("[")[0] for one in found} == {"/domain/cpu"}


def test_a_change_of_what_runs_is_named(rendered: str, captured: bytes) -> None:
    assert live_differences(rendered, captured.replace(b"Demo", b"Other"))[0].xpath == "/domain/title[1]"
    assert live_differences(rendered, b"<domain")[0].xpath == "/domain"
