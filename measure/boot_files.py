# SPDX-License-Identifier: Apache-2.0
"""The files that the kernel measured before and beside vmgate, compared with the files of a host image.

The kernel's IMA list names each file when it is first used in a way that the host's IMA policy measures, such as being
executed, mapped as code or loaded, and its digest. Every file must be the image's, by the hash of its bytes or by its
fs-verity digest; nothing else may stand there: a key that was added or a command line of kexec is no file of an image.
What the policy does not measure is covered by the verified root alone. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from documents.host_image import HostImage
from documents.verdict import Finding
from measure.errors import LogRefused
from measure.ima import ImaEntry
from measure.ima_entries import AGGREGATE, ImaFile, boot_aggregate, buffer_of, file_of, verify_boot_aggregate

IMA_PCR: Final = 10
AGENT_PROGRAM: Final = "/usr/lib/vmgate/bin/vmgate"
"""What runs as vmgate's agent on a host that boots a host image."""

LIBVIRT_PROGRAMS: Final = ("/usr/sbin/libvirtd", "/usr/sbin/virtqemud")
"""What starts VMs, as one daemon or as QEMU's own."""

_PLACED: Final = frozenset({AGENT_PROGRAM, *LIBVIRT_PROGRAMS})
"""Programs whose places in a list matter."""

MOST_FAILURES: Final = 100
NOTHING: Final = "nothing"

_KEPT: Final = 2
_LONGEST_SUBJECT: Final = 300
_LONGEST_TEXT: Final = 500
_LONGEST_CONTENT: Final = 200
_FILE: Final = "a file of the host image"
_VERITY: Final = "verity:"
_BUFFER: Final = "ima-buf"


class ImageFiles:
    """The files of one host image, by path, so that many hosts can be compared with them.

    Hosts of one image measure the same entries, so those that were good once are known again by their bytes.

    Args:
        image: the host image.
    """

    def __init__(self, image: HostImage) -> None:
        self._sha256 = {entry.path: entry.sha256 for entry in image.files}
        self._verity = {entry.path: entry.fsverity for entry in image.files}
        self._good: dict[ImaEntry, str] = {}

    def findings(self, entries: tuple[ImaEntry, ...], pcrs: Mapping[int, bytes]) -> Iterator[Finding]:
        """Compare a list that PCR 10 covers.

        At most ``MOST_FAILURES`` findings name a file or violation; one more counts the others.

        Args:
            entries: of the list.
            pcrs: PCR 0 to 9 of the same boot (SHA-256 bank).
        """
        yield _list(entries, pcrs)
        places: dict[str, int] = {}
        good = failures = 0
        # The first entry is no file: the check above is all there is to it.
        for number, entry in enumerate(entries[1:], 1):
            # No violation is among them: its digest is another.
            path = self._good.get(entry)
            if path is not None:
                good += 1
                if path in _PLACED:
                    places.setdefault(path, number)
                continue
            failure = self._failure(number, entry, places)
            if failure is None:
                good += 1
                continue
            failures += 1
            if failures <= MOST_FAILURES:
                yield failure
        if failures > MOST_FAILURES:
            more = f"{failures - MOST_FAILURES} more entries"
            yield found_out("ima-file", more, "files of the host image", "other files, or violations", good=False)
        if good:
            yield compared("ima-file", f"{good} files", "as in the host image", "as in the host image")
        yield _order(places)

    def _failure(self, number: int, entry: ImaEntry, places: dict[str, int]) -> Finding | None:
        """What is wrong with an entry; notes where the list first names each file that is as it should be.

        libvirt's programs are noted as they are: one that was changed did start.
        """
        violation = entry.violation
        known = None if violation else self._good.get(entry)
        if known is None:
            try:
                if entry.template == _BUFFER:
                    return _taken_in(entry)
                file = file_of(entry)
            except LogRefused as error:
                return found_out("ima-file", f"entry {number}", _FILE, error.cause, good=False)
            if file.name in LIBVIRT_PROGRAMS:
                places.setdefault(file.name, number)
            if violation:
                found = "it was open for writing while it was used"
                return found_out("ima-violation", _subject(file.name), "a file that nobody writes", found, good=False)
            failure = self._compare(file)
            if failure:
                return failure
            known = file.name
            # A host can make up entries of a good file that differ in its signature, but not fill the memory.
            if len(self._good) < _KEPT * len(self._sha256):
                self._good[entry] = known
        places.setdefault(known, number)
        return None

    def _compare(self, file: ImaFile) -> Finding | None:
        wanted = (self._verity if file.verity else self._sha256).get(file.name)
        if wanted is None:
            return found_out("ima-file", _subject(file.name), _FILE, f"no file of it, {_digest(file)}", good=False)
        if file.alg != "sha256" or file.digest.hex() != wanted:
            expected = f"{_VERITY if file.verity else ''}sha256:{wanted}"
            return found_out("ima-file", _subject(file.name), expected, _digest(file), good=False)
        return None


def found_out(check: str, subject: str, expected: str, found: str, *, good: bool) -> Finding:
    """A finding by the publisher's word. Texts that grow with a log are cut."""
    return Finding(
        check=check,
        subject=subject,
        outcome="pass" if good else "fail",
        expected=_cut(expected, _LONGEST_TEXT),
        found=_cut(found, _LONGEST_TEXT),
    )


def compared(check: str, subject: str, expected: str, found: str) -> Finding:
    """A finding that passes if both texts are the same and say something."""
    good = bool(expected) and expected == found
    return found_out(check, subject, expected or NOTHING, found or NOTHING, good=good)


def _taken_in(entry: ImaEntry) -> Finding:
    """What the kernel took in that is no file: no host image has any."""
    buffer = buffer_of(entry)
    text = shown(buffer.content[:_LONGEST_CONTENT].decode("latin-1")) if buffer.content.isascii() else "not a text"
    found = f"{len(buffer.content)} bytes, {buffer.alg}:{buffer.digest.hex()}: {text}"
    return found_out("ima-buffer", _subject(buffer.name), "nothing but files of the host image", found, good=False)


def _list(entries: tuple[ImaEntry, ...], pcrs: Mapping[int, bytes]) -> Finding:
    """The list is of this boot: it starts with the aggregate of PCR 0 to 9."""
    expected = f"{AGGREGATE} sha256:{boot_aggregate('sha256', pcrs).hex()}"
    found = expected if entries else ""
    try:
        if entries:
            verify_boot_aggregate(entries[0], "sha256", pcrs)
    except LogRefused as error:
        found = error.cause
    return compared("ima-list", f"pcr/{IMA_PCR}", expected, found)


def _order(places: Mapping[str, int]) -> Finding:
    """The agent came first. A list tells when a file was first used, so this is about the first start of each."""
    started = sorted((places[path], path) for path in LIBVIRT_PROGRAMS if path in places)
    expected = "vmgate before libvirtd"
    if not started:
        return found_out("start-order", "libvirtd", expected, "libvirtd was not started", good=True)
    number, path = started[0]
    agent = places.get(AGENT_PROGRAM)
    if agent is None:
        return found_out("start-order", "libvirtd", expected, f"{path}, and vmgate was not started", good=False)
    good = agent < number
    return found_out("start-order", "libvirtd", expected, expected if good else f"{path} before vmgate", good=good)


def _digest(file: ImaFile) -> str:
    return f"{_VERITY if file.verity else ''}{file.alg}:{file.digest.hex()}"


def shown(text: str) -> str:
    """Latin-1 text for people: what is not printable ASCII is escaped."""
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)


def _subject(name: str) -> str:
    """A name for people: printable ASCII, and never empty."""
    return _cut(shown(name), _LONGEST_SUBJECT) or "a file without a name"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
