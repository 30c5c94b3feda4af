# SPDX-License-Identifier: Apache-2.0
"""What stands in a sealed key besides the key: the floor that the TPM vouches for, and the states that are to come.

This module does no I/O and is no document by itself; see ``documents.host_state``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from documents.canonical import Json
from documents.fields import Fields, encode_bytes
from documents.release import MAX_NUMBER

MAX_AHEAD = 8
"""States ahead of which a key is sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFloor:
    """The part of the floor that the TPM vouches for, since its digest is sealed with the host's key.

    Attributes:
        root: version of the TUF root.
        releases: (channel, lowest number) sorted by channel: what was confirmed when the security epoch last rose.
    """

    root: int
    releases: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, untrusted: Json) -> Self:
        """Read it as a member."""
        fields = Fields(untrusted, "sealed floor")
        floor = cls(root=fields.take_int("root", 1, MAX_NUMBER), releases=read_releases(fields))
        fields.finish()
        return floor

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {"root": self.root, "releases": written(self.releases)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAhead:
    """The same key once more, for other values of its local PCRs: a change that is announced and may never come.

    Attributes:
        public: TPM2B_PUBLIC.
        private: TPM2B_PRIVATE.
        pcrs: (index, SHA-256 value in hexadecimal) in ascending order of index.
    """

    public: bytes
    private: bytes
    pcrs: tuple[tuple[int, str], ...]

    @classmethod
    def read(cls, untrusted: Json) -> Self:
        """Read one of a key's."""
        fields = Fields(untrusted, "key sealed ahead")
        ahead = cls(
            public=fields.take_bytes("public", 2_000),
            private=fields.take_bytes("private", 2_000),
            pcrs=fields.take_list("pcrs", _read_pcr, 24),
        )
        fields.finish()
        return ahead

    def members(self) -> dict[str, Json]:
        """The members, for encoding."""
        return {
            "public": encode_bytes(self.public),
            "private": encode_bytes(self.private),
            "pcrs": [{"index": index, "sha256": value} for index, value in self.pcrs],
        }


def read_releases(fields: Fields) -> tuple[tuple[str, int], ...]:
    """The member ``releases`` of a floor: (channel, lowest number) sorted by channel."""

    def release(untrusted: Json) -> tuple[str, int]:
        item = Fields(untrusted, "floor")
        pair = (item.take_name("channel"), item.take_int("number", 1, MAX_NUMBER))
        item.finish()
        return pair

    releases = fields.take_list("releases", release, 16)
    channels = [channel for channel, _ in releases]
    if channels != sorted(set(channels)):
        raise fields.wrong("releases", "is not sorted by channel")
    return releases


def written(releases: tuple[tuple[str, int], ...]) -> list[Json]:
    """The same, for encoding."""
    return [{"channel": channel, "number": number} for channel, number in releases]


def _read_pcr(untrusted: Json) -> tuple[int, str]:
    fields = Fields(untrusted, "PCR value")
    pair = (fields.take_int("index", 0, 23), fields.take_digest("sha256"))
    fields.finish()
    return pair
