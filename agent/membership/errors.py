# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between a host and its fleet, as the host sees it."""

from __future__ import annotations

from agent.errors import AgentError
from documents.errors import Exit


class NoFleet(AgentError):
    """This host belongs to no fleet."""

    code = "AG190"
    exit = Exit.NOT_READY
    explanation = "Join one with `vmgate host enroll URL --token TOKEN --ca FILE`."


class FleetRefused(AgentError):
    """The fleet refused what this host asked it for."""

    code = "AG191"
    exit = Exit.REFUSED
    explanation = (
        "The line has the fleet's own code, which `vmgate explain` knows too. A token serves once; a host that was "
        "revoked is heard again when an administrator of the fleet readmits it; clocks may differ by 300 seconds."
    )


class FleetStrange(AgentError):
    """What answered is not the fleet that this host joined, or says what no fleet says."""

    code = "AG192"
    exit = Exit.REFUSED
    explanation = (
        "An answer was not in the form that a fleet gives, or was about another host. Nothing of it was used. Look at "
        "the address, and at what stands between."
    )


class EnrolmentWrong(AgentError):
    """An address, a token or certificates are not in their form."""

    code = "AG193"
    exit = Exit.USAGE
    explanation = (
        "The address is https://NAME or https://NAME:PORT, the token 64 hexadecimal characters, and the certificates "
        "are in PEM. Nothing was sent."
    )


class TrailBehind(AgentError):
    """The fleet has more records of this host's audit trail than the host itself."""

    code = "AG194"
    exit = Exit.REFUSED
    explanation = (
        "Records are missing here that the fleet was given: the trail was cut or put back. Compare it with the fleet's "
        "copy. Until it is clear what happened, nothing more is brought."
    )
