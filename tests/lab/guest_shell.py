# SPDX-License-Identifier: Apache-2.0
"""A guest that does what a test tells it over its serial line, and can send and hear any Ethernet frame.

The program for frames is compiled here, since busybox has none. What the guest answers is the test's own image's word.
"""

from __future__ import annotations

import os
import subprocess
import threading
import tty
from dataclasses import dataclass, field
from pathlib import Path

from lab import guest_image
from lab.libvirt_host import LibvirtHost

MODULES = (*guest_image.MODULES, "failover", "net_failover", "virtio_net")
APPLETS = (
    *guest_image.APPLETS, "cat", "cmp", "dd", "grep", "ifconfig", "kill", "ls", "ping", "route", "sleep", "stty", "wc",
)  # fmt: skip
INIT = """#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in @MODULES@; do insmod /modules/$module.ko; done
stty -echo
echo 0 >/proc/sys/kernel/printk
ifconfig lo 127.0.0.1
echo "vmgate-guest: ready"
while read -r number line; do
    echo "<$number>"
    eval "$line" 2>&1
    echo "<exit $?><end $number>"
done
"""
FRAMES = r"""
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* frames send CARD HEX...   sends each as it is.   frames hear CARD   prints each that comes in, until it is killed. */
int main(int count, char **words) {
    int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    unsigned char frame[2048];
    if (s < 0 || count < 3 || !(at.sll_ifindex = if_nametoindex(words[2])) || bind(s, (void *)&at, sizeof at))
        return 1;
    if (!strcmp(words[1], "send")) {
        for (int n = 3; n < count; n++) {
            size_t length = strlen(words[n]) / 2;
            for (size_t i = 0; i < length; i++)
                if (sscanf(words[n] + 2 * i, "%2hhx", frame + i) != 1) return 2;
            if (send(s, frame, length, 0) != (ssize_t)length) return 3;
        }
        return 0;
    }
    struct packet_mreq every = {.mr_ifindex = at.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    setsockopt(s, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &every, sizeof every);
    puts("hearing");
    fflush(stdout);
    for (;;) {
        struct sockaddr_ll from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(s, frame, sizeof frame, 0, (void *)&from, &size);
        if (got <= 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
        for (ssize_t i = 0; i < got; i++) printf("%02x", frame[i]);
        puts("");
        fflush(stdout);
    }
}
"""


def frames_program(folder: Path) -> bytes:
    """The program ``frames``, statically linked."""
    source, program = folder / "frames.c", folder / "frames"
    source.write_text(FRAMES)
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", program, source], check=True, capture_output=True)
    return program.read_bytes()


def contents(folder: Path) -> guest_image.Contents:
    """What such a guest has in it."""
    programs = {"frames": frames_program(folder)}
    return guest_image.Contents(init=INIT, modules=MODULES, applets=APPLETS, programs=programs)


@dataclass(kw_only=True)
class Shell:
    """The serial line of one guest that runs.

    Attributes:
        log: what virtlogd keeps of it.
        line: the pseudo-terminal.
    """

    log: Path
    line: int
    count: int = field(default=0, init=False)

    @classmethod
    def of(cls, host: LibvirtHost, name: str, log: Path) -> Shell:
        """Wait until the guest listens."""
        guest_image.wait_for(log, guest_image.READY)
        line = os.open(host.virsh("ttyconsole", name).stdout.strip(), os.O_RDWR | os.O_NOCTTY)
        tty.setraw(line)
        # Whoever opens a line must read it, or QEMU waits.
        threading.Thread(target=_drain, args=(line,), daemon=True).start()
        return cls(log=log, line=line)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command and wait for its end.

        Returns:
            Its exit code and what it printed.
        """
        self.count += 1
        os.write(self.line, f"{self.count} {command}\n".encode())
        end = f"<end {self.count}>"
        text = guest_image.wait_for(self.log, end).replace("\r", "")
        said = text.partition(f"<{self.count}>\n")[2].partition(end)[0]
        said, _, status = said.rpartition("<exit ")
        return int(status.partition(">")[0]), said

    def output(self, command: str) -> str:
        """What a command printed that must succeed."""
        status, said = self.run(command)
        assert status == 0, f"{command}: {status}: {said}"
        return said

    def send(self, card: str, *frames: bytes) -> None:
        """Send frames as they are, in their order."""
        # A line of the terminal has room for 4,095 characters.
        for at in range(0, len(frames), 16):
            self.output(f"frames send {card} {' '.join(frame.hex() for frame in frames[at : at + 16])}")

    def hear(self, card: str) -> None:
        """From now on keep all that comes in at a card."""
        self.output(f"frames hear {card} >/heard-{card} & until [ -s /heard-{card} ]; do sleep 0.1; done")

    def heard(self, card: str) -> bytes:
        """All that came in at a card so far, one after the other."""
        lines = self.output(f"cat /heard-{card}").split()
        return b"".join(bytes.fromhex(line) for line in lines if line != "hearing")

    def wait_for(self, card: str, mark: bytes) -> None:
        """Wait until something came in at a card; what was sent before it on the same way is there by then, too."""
        self.output(f"until grep -q {mark.hex()} /heard-{card}; do sleep 0.1; done")


def _drain(line: int) -> None:
    try:
        while os.read(line, 65_536):
            pass
    except OSError:  # the guest is off
        return
