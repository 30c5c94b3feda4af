# SPDX-License-Identifier: Apache-2.0
"""Make the folder of a new service: settings, keys, certificates, an empty database. Nothing that is there is replaced.

The settings come last, so that a folder that was cut off half-way is no service. This module serves nothing.
"""

from __future__ import annotations

import secrets
import uuid
from pathlib import Path

from content import durable
from fleet.certificates import make_authority, make_result_key, make_server
from fleet.database import Database
from fleet.errors import FolderExists
from fleet.migrate import migrate
from fleet.settings import SECRET_SIZE, FleetFolder, FleetSettings
from fleet.trail import Trail


def set_up(root: Path, settings: FleetSettings, names: tuple[str, ...], now: int) -> list[str]:
    """Set a service up; returns what was done, for people.

    Args:
        root: its folder.
        settings: of it.
        names: of the server, or its addresses, for its certificate; empty where the site brings one.
        now: seconds since 1970 UTC.

    Raises:
        FolderExists: there is a service.
        FolderWrong: the database's address is none.
        DatabaseFailed: the database does not answer.
        ContentError: something cannot be written.
    """
    folder = FleetFolder(root.absolute())
    if folder.settings.exists():
        raise FolderExists("nothing was set up", cause=f"{root} is a service's folder", remedy="choose another folder")
    for place in (folder.root, folder.secret.parent, folder.ca.parent, folder.roots):
        durable.make_directory(place)
    for name in ("chips", "software"):
        durable.make_directory(folder.roots / name)
    durable.write_file(folder.secret, secrets.token_bytes(SECRET_SIZE))
    durable.write_file(folder.result_key, make_result_key())
    durable.write_file(folder.metrics_token, f"{secrets.token_hex(32)}\n".encode())
    steps = [f"keys made in {folder.secret.parent}"]
    if names:
        authority = make_authority(settings.name, now)
        server = make_server(authority, names, now)
        durable.write_file(folder.ca, authority.certificate, 0o644)
        durable.write_file(folder.ca_key, authority.key)
        durable.write_file(folder.inside(settings.certificate), server.certificate, 0o644)
        durable.write_file(folder.inside(settings.key), server.key)
        steps.append(f"certificate authority made: hosts need {folder.ca}")
    database = Database(folder.database(settings))
    try:
        before, after = migrate(database)
        steps.append(f"database made, version {after}" if not before else f"database found, version {after}")
        trail = Trail(str(uuid.uuid4()))
        database.write(
            lambda connection: trail.write(
                connection, now, "fleet-init", "done", subject=settings.name, actor="administrator", schema=after
            )
        )
    finally:
        database.close()
    durable.write_file(folder.settings, settings.encode(), 0o644)
    steps.append(f"settings written: {folder.settings}")
    return steps
