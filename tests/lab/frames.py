# SPDX-License-Identifier: Apache-2.0
"""Ethernet frames for tests, each with a mark by which it is known again wherever it comes out."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
UNKNOWN = "02:ee:ee:ee:ee:ee"
"""An address that nobody has: a bridge sends what is for it to all ports."""
ARP, IPV4, IPV6, VLAN, SERVICE_VLAN = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88A8
UDP = 17


def mac(text: str) -> bytes:
    """The six bytes of an address."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(destination: str, source: str, kind: int, payload: bytes) -> bytes:
    """A frame (IEEE 802.3) of at least 60 bytes."""
    return (mac(destination) + mac(source) + struct.pack(">H", kind) + payload).ljust(60, b"\0")


def ipv4(source: str, destination: str, mark: bytes) -> bytes:
    """A UDP datagram to the port discard (RFC 791, 768)."""
    udp = struct.pack(">HHHH", 40_000, 9, 8 + len(mark), 0) + mark
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, UDP, 0,
        IPv4Address(source).packed, IPv4Address(destination).packed,
    )  # fmt: skip
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + udp


def arp(operation: int, source_mac: str, source: str, destination: str, mark: bytes) -> bytes:
    """A packet of ARP (RFC 826), and the mark behind it."""
    head = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac(source_mac) + IPv4Address(source).packed + bytes(6) + IPv4Address(destination).packed + mark


def router_advertisement(mark: bytes) -> bytes:
    """A router advertisement to all nodes (RFC 4861, section 4.2)."""
    body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + mark
    source = socket.inet_pton(socket.AF_INET6, "fe80::1")
    return (
        struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + source + socket.inet_pton(socket.AF_INET6, "ff02::1") + body
    )


def tagged(vlan: int, kind: int, payload: bytes) -> bytes:
    """What stands behind a VLAN tag's own type (IEEE 802.1Q)."""
    return struct.pack(">HH", vlan, kind) + payload


def _checksum(head: bytes) -> int:
    total = sum(struct.unpack(f">{len(head) // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Ear:
    """Hears all frames at a network device of this process's namespace."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((device, 0))
        # SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
        self._socket.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex(device), 1, 0, b""))
        self._socket.setblocking(False)
        self._heard = b""

    def heard(self) -> bytes:
        """All that came by so far, one after the other."""
        try:
            while True:
                self._heard += self._socket.recv(65_536)
        except BlockingIOError:
            return self._heard

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
