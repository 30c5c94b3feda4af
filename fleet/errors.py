# SPDX-License-Identifier: Apache-2.0
"""What the verifier can tell a user that went wrong."""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class FleetError(VmgateError):
    """The root of this package's errors."""

    code = "FL000"
    explanation = "The fleet side of vmgate could not do what it was asked."


class VerifierUnready(FleetError):
    """The verifier was not given what a verification needs."""

    code = "FL001"
    exit = Exit.REFUSED
    explanation = (
        "Evidence is only worth something against a nonce of your own, an attestation key that you know and the "
        "release that the host should run. Without one of them the answer is no."
    )


class VerifierFailed(FleetError):
    """The verifier failed in a way that nobody foresaw, which is a no."""

    code = "FL010"
    exit = Exit.REFUSED
    explanation = (
        "Judging evidence ended in an error of vmgate itself. Whatever the evidence was, the answer is no. "
        "VMGATE_TRACEBACK=1 shows where it happened; please report that."
    )


class NonceRefused(FleetError):
    """Evidence answers a nonce that is too old, was answered before, or was never given to its host."""

    code = "FL011"
    exit = Exit.REFUSED
    explanation = (
        "A nonce proves that evidence was made after it was given out. It counts for a few minutes, for one host and "
        "once. Ask the verifier for a new one."
    )


class FolderWrong(FleetError):
    """The folder of a fleet's service is not what ``vmgate fleet init`` makes, or its settings are wrong."""

    code = "FL020"
    exit = Exit.NOT_READY
    explanation = (
        "The folder of the service holds fleet.toml, the keys that it signs with, and certificates. Something is "
        "missing or is not in its form. Keys: name, database, listen, certificate, key, channel, interval, approval, "
        "processes."
    )


class FolderExists(FleetError):
    """A fleet's service was set up there before."""

    code = "FL021"
    explanation = "`vmgate fleet init` makes keys and a database, and never replaces any. Choose another folder."


class DatabaseFailed(FleetError):
    """The database did not do what it was asked; nothing of it was kept."""

    code = "FL022"
    exit = Exit.NOT_READY
    explanation = (
        "What belongs together is written in one transaction: after a failure none of it is there. No host counts as "
        "trusted because of a failure. Look at the database, and at the room on its disk."
    )


class SchemaOther(FleetError):
    """The database is of another version of vmgate."""

    code = "FL023"
    exit = Exit.NOT_READY
    explanation = (
        "The tables of a fleet are made for one version. `vmgate fleet migrate` brings older ones forward, in one "
        "transaction; make a backup first. A database of a newer vmgate is left alone."
    )


class LibraryMissing(FleetError):
    """What the service needs besides is not installed."""

    code = "FL024"
    exit = Exit.NOT_READY
    explanation = "The service needs libraries that hosts do without. Install vmgate with the extra `fleet`."


class TokenRefused(FleetError):
    """An enrolment token is unknown, used, withdrawn or too old."""

    code = "FL030"
    exit = Exit.REFUSED
    explanation = (
        "A token enrols one host, once, for a while. `vmgate fleet token create` makes a new one. "
        "The same host may repeat the same enrolment, in case it did not hear the answer."
    )


class EnrolmentRefused(FleetError):
    """A host was not taken into the fleet."""

    code = "FL031"
    exit = Exit.REFUSED
    explanation = (
        "The host did not show that one TPM, for which a vendor in the folder `roots` vouches, holds its endorsement "
        "key, its attestation key and its request key; or it took too long; or its name is another host's."
    )


class HostUnknown(FleetError):
    """The fleet has no such host."""

    code = "FL032"
    exit = Exit.NOT_FOUND
    explanation = "A host is named by its id or its name; `vmgate fleet hosts` lists them."


class HostRefused(FleetError):
    """A host may not do what it asks for: it was revoked, waits for approval, or is unknown."""

    code = "FL033"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "Only hosts that are enrolled and active are heard. `vmgate fleet host approve` lets one in that waits, and "
        "`vmgate fleet host readmit` one that was revoked. A host that the fleet does not know gets the same answer."
    )


class StateWrong(FleetError):
    """A host is not in a state in which that can be done to it."""

    code = "FL034"
    exit = Exit.POLICY
    explanation = "A host is pending, active or revoked; `docs/guide/fleet.md` has the table of what leads where."


class ReferenceWrong(FleetError):
    """Reference values were not taken in, or there are none for a host."""

    code = "FL035"
    exit = Exit.NOT_READY
    explanation = (
        "Hosts are compared with releases that an administrator gave to the service with `vmgate fleet reference add`, "
        "each with the artifacts that it names: security policy, host image, files of libvirt's packages. Without a "
        "platform release of a host's channel no evidence can be judged, and no host is trusted."
    )


class RequestTooLarge(FleetError):
    """A request is larger, slower or of another kind than the service takes."""

    code = "FL040"
    exit = Exit.REFUSED
    explanation = "Each kind of request has a most of bytes and of seconds. More is not read, and nothing was done."


class Crowded(FleetError):
    """The host changed while its evidence was judged, so that the verdict does not count."""

    code = "FL041"
    exit = Exit.NOT_READY
    explanation = (
        "Two requests of one host came at a time. The one that was first counts; ask for a nonce and try again."
    )


class AuditRefused(FleetError):
    """Audit records of a host do not follow those that the fleet has, or are not what the host signed."""

    code = "FL050"
    exit = Exit.REFUSED
    explanation = (
        "The fleet is the witness of its hosts' audit trails: records must follow one another without a gap, the "
        "newest signed head must be the host's own and lie on the chain. What does not is refused, and raises an alarm."
    )


class PasswordWeak(FleetError):
    """A password may not be set."""

    code = "FL060"
    exit = Exit.POLICY
    explanation = (
        "A password has at least as many characters as the fleet's rules ask for (15 where nobody changed that), at "
        "least five different ones, no control characters, and not the account's name. All other characters may stand "
        "in it."
    )


class RulesWrong(FleetError):
    """Rules for administrators' accounts are not in their ranges, or cannot be read."""

    code = "FL061"
    exit = Exit.POLICY
    explanation = (
        "`vmgate fleet admin rules` shows and sets them: length of passwords 8 to 128, failures before an account is "
        "locked 1 to 20, minutes that it is (0: until somebody unlocks it) up to 1440, idle minutes 1 to 60, hours of "
        "a session 1 to 24, and the banner. While they cannot be read nobody logs in."
    )


class LoginRefused(FleetError):
    """A log-in, or the password that was asked for again, does not count."""

    code = "FL062"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "Name or password is wrong, or the account is locked: by an administrator, or for a while after too many "
        "failures. The answer is the same for all of these; the audit trail tells them apart. "
        "`vmgate fleet admin unlock` unlocks."
    )


class AdminUnknown(FleetError):
    """There is no administrator of that name."""

    code = "FL063"
    exit = Exit.NOT_FOUND
    explanation = "`vmgate fleet admin list` lists the accounts. There is none that was not made by somebody."


class AdminExists(FleetError):
    """There is an account of that name."""

    code = "FL064"
    explanation = "Names of accounts are given once, so that an audit record is about one person."


class LastAdministrator(FleetError):
    """Nobody would be left who can make accounts."""

    code = "FL065"
    exit = Exit.POLICY
    explanation = (
        "An account with the role administrator that is not locked must be left on the pages. On the service's machine "
        "`vmgate fleet admin create` makes another one at any time."
    )


class PageRefused(FleetError):
    """Somebody may not do what a page does, or the request did not come from a page of the service's own."""

    code = "FL066"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "`docs/roles.md` says which role has which function. What changes something must come from a form that the "
        "service made for this session."
    )


class Busy(FleetError):
    """More log-ins are tried than are looked at at a time."""

    code = "FL067"
    exit = Exit.NOT_READY
    explanation = "Looking at a password takes a while on purpose. Each process looks at two at a time; try again."


class PlanWrong(FleetError):
    """A plan of assignments is not in its form, or there is none of that name."""

    code = "FL070"
    exit = Exit.POLICY
    explanation = (
        "A plan says what hosts with a label may take: `vmgate fleet assign set NAME --allow CHANNEL=LOWEST-HIGHEST "
        "--label NAME=TEXT`. Of several plans that fit a host the one with the lowest position counts."
    )
