# SPDX-License-Identifier: Apache-2.0
"""How this host joins a fleet: its TPM opens the fleet's challenge and vouches for a new request key.

The key is made anew each time, and kept only once the fleet has taken the host in: a cut leaves the old membership or
the new one. The token is not kept. This module does not attest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.identity import identity, open_challenge
from agent.membership.errors import EnrolmentWrong, FleetStrange
from agent.membership.link import Asks, ask
from documents.enrolment import (
    CA_LIMIT,
    URL_LIMIT,
    Enrolled,
    EnrolmentOffer,
    EnrolmentProof,
    EnrolmentRequest,
    Membership,
)
from documents.fields import HEX_SHA256, NAME
from measure.proof import joined
from measure.templates import request_public
from measure.tpm import Tpm

_PEM = re.compile(r"[A-Za-z0-9+/=\s-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What an administrator of the fleet hands over.

    Attributes:
        url: where the fleet answers.
        token: lets one host in.
        ca: certificates in PEM, which alone are believed of the fleet.
        name: what this host would like to be called; empty where it does not mind.
    """

    url: str
    token: str
    ca: str
    name: str

    def require_sound(self) -> None:
        """Require each part to be in its form, before anything is sent.

        Raises:
            EnrolmentWrong: one is not.
        """
        try:
            parts = urlsplit(self.url)
            sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            sound, parts = False, urlsplit("")
        if not sound or parts.scheme != "https" or parts.username or parts.path.strip("/") or parts.query:
            raise _wrong("the address is not https://NAME or https://NAME:PORT")
        if len(self.url) > URL_LIMIT or not self.url.isascii() or not self.url.isprintable() or parts.fragment:
            raise _wrong("the address is not https://NAME or https://NAME:PORT")
        if not HEX_SHA256.fullmatch(self.token):
            raise _wrong("the token has not 64 hexadecimal characters")
        if "BEGIN CERTIFICATE" not in self.ca or len(self.ca) > CA_LIMIT or not _PEM.fullmatch(self.ca):
            raise _wrong("the certificates are not in PEM")
        if self.name and not NAME.fullmatch(self.name):
            raise _wrong("the wanted name is not one")


def join(exchange: Asks, invitation: Invitation, tpm: Tpm) -> Membership:
    """Join a fleet; the membership is for the caller to keep.

    Raises:
        FleetRefused: the fleet said no.
        FleetStrange: the answers are not those of a fleet.
        UpdaterError: the fleet does not answer.
        MeasureError: the TPM did not do its part.
    """
    asked = EnrolmentRequest(token=invitation.token, identity=identity(tpm).encode())
    offer = ask(exchange, "POST", "/v1/enrolments", asked.encode(), EnrolmentOffer)
    answer, shown = open_challenge(tpm, offer.challenge)
    public, private = tpm.create(request_public())
    attest, signature = tpm.certify(public, private, joined(answer))
    proof = EnrolmentProof(
        token=invitation.token,
        ticket=offer.ticket,
        identity=shown.encode(),
        # TPM2B_PUBLIC is a size of two bytes and TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.5).
        key=public[2:],
        attest=attest,
        signature=signature,
        name=invitation.name,
    )
    enrolled = ask(exchange, "POST", "/v1/enrolments/proofs", proof.encode(), Enrolled)
    if enrolled.fleet != offer.fleet:
        raise FleetStrange("the host did not join", cause="two fleets answered", remedy="check the address")
    return Membership(
        url=invitation.url.rstrip("/"),
        ca=invitation.ca.encode(),
        enrolled=enrolled.encode(),
        public=public,
        private=private,
    )


def _wrong(cause: str) -> EnrolmentWrong:
    return EnrolmentWrong("the host was not enrolled", cause=cause, remedy="see `vmgate explain AG193`")
