# SPDX-License-Identifier: Apache-2.0
"""What of a libvirt domain goes into a definition; and what does not is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.errors import UnreadableDomain
from hypervisor.from_domain import take_over

DOMAIN = b"""\
<domain type='kvm'>
  <name>old</name><uuid>00000000-0000-4000-8000-000000000001</uuid>
  <title>The old one</title>
  <memory unit='GiB'>2</memory><vcpu placement='static'>4</vcpu>
  <os><type>hvm</type></os>
  <devices><disk type='file'/><interface type='network'/><disk type='file'/></devices>
</domain>"""


def test_processors_memory_and_title_are_taken_and_the_rest_is_named() -> None:
    taken = take_over(DOMAIN)
    assert taken.values == {"memory_mib": 2048, "vcpus": 4, "title": "The old one"}
    assert taken.left == ("devices/disk", "devices/interface", "os")


@pytest.mark.parametrize(
    ("old", "new", "mib"),
    [(b"unit='GiB'", b"", 1), (b"unit='GiB'>2", b"unit='b'>1048577", 2), (b"'GiB'>2", b"'M'> 64 ", 64)],
)
def test_memory_is_told_in_libvirts_units(old: bytes, new: bytes, mib: int) -> None:
    assert take_over(DOMAIN.replace(old, new)).values["memory_mib"] == mib


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'GiB'", b"'bushel'"),
        (b">2<", b">two<"),
        (b">2<", b"><"),
        (b">4<", b">-4<"),
        (b">4<", b">" + b"9" * 19 + b"<"),
    ],
)
def test_what_is_no_number_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(UnreadableDomain):
        take_over(DOMAIN.replace(old, new))


def test_a_title_that_hides_is_left() -> None:
    assert "title" not in take_over(DOMAIN.replace(b"The old one", "a\u202eb".encode())).values


@given(untrusted=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_refused(untrusted: bytes) -> None:
    with pytest.raises(UnreadableDomain):
        take_over(untrusted)
