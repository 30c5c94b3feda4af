# SPDX-License-Identifier: Apache-2.0
"""The TUF client workflow: from the trust anchor to the bytes of each channel's newest release.

python-tuf's ngclient runs it (TUF specification 1.0.34, section 5). Added here, in this order:

1. the clock is not before the floor, unless the keys that vouched for the floor's time were replaced since;
2. the workflow starts from the trust anchor each time, whatever lies on the disk;
3. "now" is a given time, never before the floor;
4. the root is not below the floor;
5. the release has the length and digest that were signed, is well formed, and is of the channel asked for;
6. it is not below the floor, and not published in the future;
7. a host that follows assignments has one, of its own and not expired, and gets the newest release that it allows.

Expired metadata is refused. Only a bundle, which cannot be fresher, is then judged as of the floor's time: none of its
metadata had expired at the latest time that this host knows to be past, and each release is still within its own
``import_days``, or within the days that an administrator allows instead. The result is marked stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Signed, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig

from content import durable
from content.errors import storage
from documents.assignment import Assignment
from documents.errors import DocumentError
from documents.host_state import Floor
from documents.release import Release
from keys.anchor import TrustAnchor
from keys.roles import releases_role
from updater.assignment import ROLE as ASSIGNMENTS
from updater.assignment import assignment_target, choose
from updater.client.assignment import require_assignment, require_current
from updater.client.fetcher import BASE, SourceFetcher
from updater.client.floor import require_clock, require_published, require_release, require_root
from updater.client.offer import Offer
from updater.client.recovery import vouchers_replaced
from updater.client.source import Source, read
from updater.errors import (
    ClockWrong,
    ImportTooLate,
    MetadataExpired,
    MetadataRefused,
    NoSuchChannel,
    NotOffered,
    Unreachable,
    UpdaterError,
    WrongAnchor,
)
from updater.formats import LIMITS, METADATA, release_number, release_target, target_name

DAY = 86_400
ROOTS = "root_history"
"""Where python-tuf keeps the roots that it followed, in its directory."""
_TRY_AGAIN = "try another network or mirror, or ask the publisher"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one pass of the workflow found.

    Attributes:
        root: the root's version.
        releases: release and time of publication by channel.
        assignment, newest: see ``Offer``.
    """

    root: int
    releases: Mapping[str, tuple[bytes, int]]
    assignment: Assignment | None
    newest: Mapping[str, int]


def refresh(
    directory: Path,
    anchor: TrustAnchor,
    source: Source,
    channels: Sequence[str],
    *,
    now: int,
    floor: Floor,
    host: str = "",
    allow_stale: int = 0,
) -> Offer:
    """Run the workflow.

    Args:
        directory: where python-tuf keeps metadata; nothing in it is trusted more than the anchor and the floor.
        anchor: where trust starts.
        source: the repository.
        channels: whose newest releases are wanted.
        now: seconds since 1970 UTC.
        floor: the lowest that is accepted; not changed here.
        host: name of this host in its fleet; empty for one that follows no assignments.
        allow_stale: days that an administrator allows a bundle; lengthens ``import_days`` and does nothing else.

    Raises:
        ClockWrong: the clock is before the floor, or before a publication.
        MetadataExpired: a role's metadata has expired.
        ImportTooLate: so it has in a bundle, and a release's days are over.
        WrongAnchor: nobody whom the anchor leads to has signed.
        MetadataRefused: unsigned, rolled back, mixed, malformed, or of the wrong length or digest.
        BelowFloor: root or release is older than this host has accepted.
        NoSuchChannel: the repository has no release of a channel.
        NotAssigned, AssignmentExpired, AssignmentRefused: the host follows assignments and has no good one.
        DocumentError: a release or assignment is malformed.
        UpdaterError, ContentError: the source failed, or the directory cannot be read or written.
    """
    try:
        require_clock(floor, now)
    except ClockWrong as wrong:
        again = partial(refresh, directory, anchor, source, channels, now=now, floor=replace(floor, time=0), host=host)
        return _recover(again, directory, anchor, floor, wrong)
    durable.make_directory(directory, 0o700)
    reference = max(now, floor.time)
    try:
        found, stale = _run(directory, anchor, source, channels, reference, floor, host), False
    except MetadataExpired:
        if not source.offline:
            raise
        found, stale = _run(directory, anchor, source, channels, floor.time, floor, host), True
    _require_acceptable(found, floor, now, allow_stale if stale else None)
    newest = max((published for _, published in found.releases.values()), default=0)
    return Offer(
        releases={channel: release for channel, (release, _) in found.releases.items()},
        published={channel: published for channel, (_, published) in found.releases.items()},
        root=found.root,
        # Of stale metadata only the time of publication is certain: the clock was not confirmed by anybody.
        time=max(floor.time, newest) if stale else reference,
        stale=stale,
        assignment=found.assignment,
        newest=found.newest,
    )


def _require_acceptable(found: _Found, floor: Floor, now: int, allow_stale: int | None) -> None:
    """Require what the module's description says from 4 on; with a number of allowed days the metadata had expired."""
    require_root(floor, found.root)
    if found.assignment is not None:
        require_current(found.assignment, max(now, floor.time))
    for release, published in found.releases.values():
        parsed = Release.parse(release)
        require_release(floor, parsed)
        require_published(published, now)
        if allow_stale is not None and now > published + max(parsed.import_days, allow_stale) * DAY:
            raise _too_late(parsed, published, allow_stale)


def _recover(
    again: Callable[[], Offer], directory: Path, anchor: TrustAnchor, floor: Floor, wrong: ClockWrong
) -> Offer:
    """Believe the clock over the floor's time if those who vouched for that were replaced; else the clock is wrong."""
    try:
        offer = again()
    except (UpdaterError, DocumentError):
        raise wrong from None
    if offer.stale or not vouchers_replaced(directory, anchor, floor.root, offer.root):
        raise wrong
    return replace(offer, recovered=True)


class GivenTimeUpdater(Updater):
    """ngclient with a given time and durable writes. It reads and writes ``directory`` and asks ``source``.

    These are the only private names of python-tuf that vmgate touches; a test fails if they move.
    """

    def __init__(self, directory: Path, root: bytes, source: Source, reference: int) -> None:
        config = UpdaterConfig(
            max_root_rotations=LIMITS.root_rotations,
            max_delegations=LIMITS.delegations,
            root_max_length=LIMITS.root,
            timestamp_max_length=LIMITS.timestamp,
            snapshot_max_length=LIMITS.snapshot,
            targets_max_length=LIMITS.targets,
        )
        self._last = ("root", root)
        durable.make_directory(directory / ROOTS, 0o700)
        super().__init__(
            str(directory), f"{BASE}{METADATA}/", fetcher=SourceFetcher(source), config=config, bootstrap=root
        )
        self._trusted_set.reference_time = datetime.fromtimestamp(reference, UTC)

    @property
    def root_version(self) -> int:
        """Version of the trusted root."""
        return self._trusted_set.root.version

    @property
    def consistent_snapshot(self) -> bool:
        """Whether digests stand before the names of targets."""
        return bool(self._trusted_set.root.consistent_snapshot)

    def has(self, role: str) -> bool:
        """Whether a role's metadata is trusted by now."""
        return role in self._trusted_set

    def numbers(self, channel: str) -> tuple[int, ...]:
        """Numbers of the releases that the role of a channel lists, once it was asked for one."""
        role = self._listing(releases_role(channel))
        paths = role.targets if role is not None else ()
        return tuple(number for path in paths if (number := release_number(path, channel)) is not None)

    def find_assignment(self, host: str) -> TargetFile | None:
        """What is listed for a host; nothing also where no host of its bin was ever assigned."""
        path = assignment_target(host)
        try:
            return self.get_targetinfo(path)
        except RepositoryError:
            role = self._listing(ASSIGNMENTS)
            bins = role.delegations.succinct_roles if role is not None and role.delegations is not None else None
            if bins is None or f"{bins.get_role_for_target(path)}.json" in self._trusted_set.snapshot.meta:
                raise
            return None

    def _listing(self, role: str) -> Targets | None:
        signed = self._trusted_set[role] if self.has(role) else None
        return signed if isinstance(signed, Targets) else None

    def expired(self) -> MetadataExpired:
        """Which role it was, after ``ExpiredMetadataError``."""
        time = self._trusted_set.reference_time
        for role in ("root", "timestamp", "snapshot"):
            if self.has(role) and self._trusted_set[role].is_expired(time):
                return MetadataExpired(role, self._trusted_set[role].expires.date().isoformat())
        # Targets metadata is not taken into the set when it has expired: it is what came last, and was verified before
        # its expiry was looked at. Of a role before it what came last may be anything.
        signed: Signed = Metadata[Targets].from_bytes(self._last[1]).signed
        return MetadataExpired(self._last[0], signed.expires.date().isoformat())

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        data = super()._download_metadata(rolename, length, version)
        self._last = (rolename, data)
        return data

    def _persist_file(self, filename: str, data: bytes) -> None:
        durable.write_file(Path(filename), data)

    def _update_root_symlink(self) -> None:
        """python-tuf removes the link before it makes the new one; this one is never away."""
        durable.replace_link(Path(self._dir) / "root.json", f"{ROOTS}/{self.root_version}.root.json")


def _run(
    directory: Path,
    anchor: TrustAnchor,
    source: Source,
    channels: Sequence[str],
    reference: int,
    floor: Floor,
    host: str,
) -> _Found:
    """One pass."""
    releases: dict[str, tuple[bytes, int]] = {}
    newest: dict[str, int] = {}
    with storage("the update was not looked up", directory):
        updater = GivenTimeUpdater(directory, anchor.root, source, reference)
        with _mapped(updater):
            updater.refresh()
            assignment = require_assignment(updater.find_assignment(host), host) if host else None
            for channel in channels:
                target = _target(updater, channel, None)
                if assignment is not None:
                    listed = updater.numbers(channel)
                    newest[channel] = max(listed, default=0)
                    number = choose(assignment, channel, listed, dict(floor.releases).get(channel, 0))
                    if number is None:
                        continue
                    target = _target(updater, channel, number)
                releases[channel] = _fetch(source, target, channel)
            return _Found(root=updater.root_version, releases=releases, assignment=assignment, newest=newest)


def _target(updater: GivenTimeUpdater, channel: str, number: int | None) -> TargetFile:
    target = updater.get_targetinfo(release_target(channel, number))
    if target is None:
        raise NoSuchChannel(
            "the update was not looked up",
            cause=f"the repository has no release of the channel {channel}",
            remedy="check the channels in the configuration",
        )
    return target


def _fetch(source: Source, target: TargetFile, channel: str) -> tuple[bytes, int]:
    """Release and time of publication."""
    sha256 = target.hashes.get("sha256")
    if sha256 is None or target.length > LIMITS.release:
        raise _refused(f"{target.path} is listed without SHA-256 digest, or as too long")
    data = read(source, target_name(target.path, sha256), target.length)
    target.verify_length_and_hashes(data)
    release = Release.parse(data)
    if release.channel != channel or release_number(target.path, channel) not in (None, release.number):
        raise _refused(f"{target.path} holds a release of another channel or number")
    return data, _published(target)


def _published(target: TargetFile) -> int:
    custom = target.custom
    published = custom.get("published") if isinstance(custom, dict) else None
    if not isinstance(published, int) or isinstance(published, bool) or not 0 <= published < 2**40:
        raise _refused(f"{target.path} is listed without the time of its publication")
    return published


@contextmanager
def _mapped(updater: GivenTimeUpdater) -> Iterator[None]:
    """Turn what python-tuf raises into errors of this package."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise updater.expired() from error
    except UnsignedMetadataError as error:
        if not updater.has("timestamp"):
            raise WrongAnchor(
                "the update was refused",
                cause=f"this host's trust anchor does not lead to its signers: {error}",
                remedy="check the repository's address, then ask the publisher",
            ) from error
        raise _refused(str(error)) from error
    except RepositoryError as error:
        raise _refused(f"{type(error).__name__}: {error}") from error
    except DownloadLengthMismatchError as error:
        raise _refused(str(error)) from error
    except DownloadHTTPError as error:
        raise NotOffered("the update was not looked up", cause=str(error), remedy=_TRY_AGAIN) from error
    except DownloadError as error:
        raise Unreachable("the update was not looked up", cause=str(error), remedy=_TRY_AGAIN) from error


def _refused(why: str) -> UpdaterError:
    return MetadataRefused("the update was refused", cause=why[:300], remedy=_TRY_AGAIN)


def _too_late(release: Release, published: int, allow_stale: int) -> ImportTooLate:
    day = datetime.fromtimestamp(published, UTC).date().isoformat()
    days = f"{release.import_days} days"
    if allow_stale > release.import_days:
        days = f"{allow_stale} days as --allow-stale says"
    return ImportTooLate(
        "the bundle was refused",
        cause=f"{release.channel} {release.number} is of {day} and may be imported for {days}",
        remedy="get a newer bundle",
    )
