# SPDX-License-Identifier: Apache-2.0
"""Rules about ways in and out: networks, serial lines, channels."""

from __future__ import annotations

from hypervisor.rules.rule import Rule

_LINES = "self::serial or self::console or self::parallel or self::channel"
_AGENT = "self::channel[@type='unix'][target/@name='org.qemu.guest_agent.0']"

_OPEN = "/domain/devices/interface[@type='network' or @type='bridge'][not(port/@isolated='yes')]"
# A network of vmgate's own with its own filter; whether it is one of the kind `peers` the gate compares.
_OURS = "starts-with(source/@network, 'vmgate-') and filterref/@filter=source/@network"

CONNECTIONS = (
    Rule(
        id="HV050",
        level="deny",
        where=("/domain/devices/interface[@type='direct'][source/@mode='passthrough']",),
        why="The guest would own a network card of the host, past every filter.",
        fix="Use a network.",
        sfr="FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV050",
        level="grant",
        where=("/domain/devices/interface[@type='direct'][not(source/@mode='passthrough')]",),
        why="The guest stands on the host's own network, past every filter.",
        fix="Use a network, or grant it.",
        sfr="FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV051",
        level="deny",
        where=("/domain/devices/interface[not(@type='network' or @type='bridge' or @type='direct')]",),
        why="Nobody controls who the guest talks to.",
        fix="Use a network from a signed definition.",
        sfr="FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV051",
        level="grant",
        where=("/domain/devices/interface[@type='bridge']",),
        why="The bridge may lead to the host's own network.",
        fix="Use a network from a signed definition, or grant it.",
        sfr="FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV052",
        level="deny",
        where=(f"{_OPEN}[not({_OURS})]",),
        why="VMs on the same bridge could talk to each other.",
        fix="Add <port isolated='yes'/>.",
        sfr="FDP_VMS_EXT.1, FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV052",
        level="grant",
        where=(f"{_OPEN}[{_OURS}]",),
        why="VMs on this network can talk to each other.",
        fix="Use a network of the kind nat, or grant it by the VM's definition.",
        sfr="FDP_VMS_EXT.1, FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV053",
        level="deny",
        where=(
            "/domain/devices/interface[@type='network' or @type='bridge'][not(filterref)]",
            "/domain/devices/interface/filterref[not(re:test(@filter, '^(clean-traffic|vmgate-)'))]",
        ),
        why="The guest could send under another's address.",
        fix="Add <filterref filter='clean-traffic'/>.",
        sfr="FDP_VNC_EXT.1",
    ),
    Rule(
        id="HV054",
        level="deny",
        where=(
            "/domain/devices/interface[script or downscript]",
            "/domain/devices/interface[backend/@tap or backend/@vhost]",
            "/domain/devices/interface[@trustGuestRxFilters='yes']",
        ),
        why="A program of the host would run as root at each start, or the guest would set the host's filters.",
        fix="Remove it.",
        sfr="FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV060",
        level="deny",
        where=(
            (
                f"/domain/devices/*[{_LINES}][not(@type='pty' or @type='null' or @type='spicevmc' or @type='spiceport'"
                f" or @type='qemu-vdagent')][not({_AGENT})]"
            ),
        ),
        why="The guest could write files of the host, or its console would be open to a network.",
        fix="Use type='pty' with a <log>, or remove it.",
        sfr="FDP_PPR_EXT.1, FPT_VIV_EXT.1",
    ),
    Rule(
        id="HV061",
        level="grant",
        where=("/domain/devices/channel[target/@name='org.qemu.guest_agent.0']",),
        why="The guest's agent is a way for commands between host and guest.",
        fix="Remove the channel, or grant it.",
        sfr="FDP_VMS_EXT.1",
    ),
    Rule(
        id="HV062",
        level="deny",
        where=("/domain/devices/vsock",),
        why="Services of the host could be reached from the guest.",
        fix="Remove it.",
        sfr="FDP_VMS_EXT.1",
    ),
)
