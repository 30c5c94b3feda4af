# SPDX-License-Identifier: Apache-2.0
"""This host's place in the waves of releases: drawn at random at first need, kept for ever, told to nobody."""

from __future__ import annotations

import secrets
from pathlib import Path

from content import durable
from content.errors import Missing
from documents.unattended import WavePlace
from documents.waves import HOSTS


def wave_place(path: Path) -> int:
    """The place, 0 to 999.

    Raises:
        DocumentError: the file is malformed or of a newer vmgate.
        ContentError: it cannot be read or written.
    """
    try:
        return WavePlace.parse(durable.read_file(path, WavePlace.LIMIT)).place
    except Missing:
        place = WavePlace(place=secrets.randbelow(HOSTS))
        durable.write_file(path, place.encode())
        return place.place
