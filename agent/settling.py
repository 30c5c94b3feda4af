# SPDX-License-Identifier: Apache-2.0
"""Bringing the VMM of a release into effect on this boot: mounted, measured, judged, and the host's keys opened by it.

It knows nothing of generations on the disk and switches none (``agent.updates`` does); each step can be repeated after
a cut. Nobody may call it but under the turn that ``agent.launch`` describes, where VMs could start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agent.audit_key import AuditKey
from agent.errors import Refused, Unhealthy
from agent.outside import Outside
from agent.platform import Platform
from agent.resealing import Resealing
from agent.setup import renew_hook
from agent.vm_keys import VmKeys
from agent.vmm_images import VmmImages, image_of
from documents.errors import VmgateError
from documents.host_state import Generation
from documents.release import Release
from documents.verdict import NotTrusted, Verdict
from measure.errors import SealShut
from measure.predict import reference_digest

STILL_RUNNING = frozenset({"vm-start"})
"""A VM that still runs from an older release speaks against no release."""

HOSTS_OWN = frozenset({"not-approved", "baseline", "kernel-argument"})
"""What a release asks of the host's administrator, who can give it only once the release is active. It stays active,
and nothing starts until then."""


class Settling:
    """What happens to this boot when releases change.

    Args:
        outside: of this host.
        platform: measures and appraises.
        keys: the host's key, which must open after a switch.
        audit_key: made with the first release.
        resealing: keeps the host's key sealed as the releases want it.
        images: mounts what a release brings as an image.
    """

    def __init__(
        self,
        outside: Outside,
        platform: Platform,
        keys: VmKeys,
        audit_key: AuditKey,
        resealing: Resealing,
        images: VmmImages,
    ) -> None:
        self._outside = outside
        self._platform = platform
        self._keys = keys
        self._audit_key = audit_key
        self._resealing = resealing
        self._images = images

    def fits_boot(self, platform: Release, old: Generation | None) -> bool:
        """Whether a platform can be measured now.

        If nobody signed a switch to it from what this boot measured, it waits for the next boot, which measures nothing
        but it; until then it is unconfirmed and no VM starts.
        """
        same = old is not None and old.platform == platform
        return same or self._platform.can_change(platform)

    def require_components(self, release: Release) -> None:
        """Require that this host has all that a platform release names, before anything is switched to it.

        Raises:
            Refused: it has not.
            ImageNotMounted: the VMM image was not mounted.
        """
        self._images.prepare(release)
        hook = next((value.fsverity for value in release.reference if value.component == "vmgate/hook"), "")
        if renew_hook(Path(self._outside.settings.hook), hook):
            self._outside.audit.append("hook-renewal", "done", "host", "agent", hook=hook)
        found = (*self._platform.recheck(release), *self._platform.recheck_named(release))
        failures = [finding for finding in found if finding.outcome == "fail"]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise Refused(
                f"{release.channel} {release.number} was not activated",
                cause=failures[0].sentence() + more,
                remedy="install the packages that the release names, then try again",
            )

    def settle(self, generation: Generation, old: Generation | None) -> None:
        """Measure what was switched to, and require that it is trusted and that the host's key opens.

        Raises:
            VmgateError: so it is not; ``speaks_against`` says whether that is the release's fault.
        """
        platform = generation.platform
        self.measure(platform, old.platform if old else None)
        require_sound(self._platform.appraise(generation), STILL_RUNNING | HOSTS_OWN)
        self.make_keys(platform)
        self._keys.open_host_key(platform)
        self._keys.require_not_below(generation)

    def measure(self, platform: Release, old: Release | None) -> None:
        """Measure a platform, as a switch where it changed. Its image is the current one then."""
        if platform != old:
            self._platform.change(platform)
        else:
            # It was measured before, unless the machine was off since.
            self._platform.enter(platform)
        self.use_image(platform)

    def use_image(self, platform: Release) -> None:
        """Mount the image of the platform that is in effect, where it is not, or no more.

        Raises:
            ImageNotMounted: it was not mounted.
        """
        self._images.prepare(platform)
        self._images.follow(platform)

    def make_keys(self, platform: Release) -> None:
        """Make the host's keys where there are none."""
        if not self._keys.ready():
            with self._resealing.recorded("there is none"):
                self._keys.make_host_key(platform, self._resealing.first_floor())
        self._audit_key.make(platform)

    def opens(self, generation: Generation) -> bool:
        """Whether this boot is in a state in which the generation's policies open the host's key."""
        try:
            self._keys.open_host_key(generation.platform)
        except VmgateError:
            return False
        return True

    def sound(self, generation: Generation) -> bool:
        """Whether nothing speaks against the platform but VMs that run from before."""
        try:
            require_sound(self._platform.appraise(generation), STILL_RUNNING)
        except VmgateError:
            return False
        return True

    def follow(self, platform: Release) -> None:
        """Let the host's keys follow a confirmed release. Safe to repeat.

        A key that somebody removed, because this TPM opens it no more, is made anew.
        """
        self.make_keys(platform)
        digest = reference_digest(platform.reference)
        # What is kept in memory was opened in the epoch that may end here.
        self._keys.forget()
        subject, origin = f"epoch/{platform.epoch}", platform.origin
        self._resealing.follow(platform, lambda: self._platform.note("epoch", subject, digest, origin))
        # A policy key is replaced together with the epoch.
        self._audit_key.follow(platform)

    def collect(self, generations: Iterable[Generation]) -> frozenset[str]:
        """Unmount the images that neither a generation on the disk nor a VM needs; returns the digests of the rest."""
        images = (image_of(generation.platform) for generation in generations)
        return self._images.collect(image.fsverity for image in images if image is not None)


def speaks_against(error: VmgateError) -> bool:
    """Whether a failure is a release's, so that it is not offered again on its own.

    A full disk, a mute TPM, and a key that somebody copied back from before the TPM's counter rose are not.
    """
    shut = isinstance(error, SealShut) and error.term != "counter"
    return shut or isinstance(error, NotTrusted | Unhealthy)


def require_sound(verdict: Verdict, besides: frozenset[str]) -> None:
    """Require that nothing speaks against the platform, besides some checks.

    Raises:
        NotTrusted: something does.
    """
    rest = tuple(finding for finding in verdict.findings if finding.check not in besides)
    replace(verdict, findings=rest).require_trusted("see `vmgate measure show`; a reboot measures all anew")
