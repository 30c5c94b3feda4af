# SPDX-License-Identifier: Apache-2.0
"""The tables of a fleet's database, as this version of vmgate has them; ``fleet.migrations`` makes them.

Times are seconds since 1970 UTC. Documents lie in them as their canonical bytes. No column holds a private key, and a
token is kept as its SHA-256, so that who reads the database can neither enrol nor speak for a host. This module asks
nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA = "0004"
"""The newest migration; the service works with no other."""

metadata = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A key that counts up by itself; SQLite does that for INTEGER alone."""

state = Table(
    "state",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("text", String(200), nullable=False),
)
"""What there is once: ``audit``: the end of the fleet's own trail; ``references``: how often those changed."""

tokens = Table(
    "tokens",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("name", String(63), nullable=False),
    Column("channel", String(63), nullable=False),
    Column("creator", String(120), nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("host", String(36), nullable=False),
    Column("proof", String(64), nullable=False),
)
"""``used`` is 0 for a token that was not; ``proof`` is the SHA-256 of what it was used with."""

hosts = Table(
    "hosts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("ek", String(64), nullable=False, unique=True),
    Column("ak", LargeBinary, nullable=False),
    Column("request_key", LargeBinary, nullable=False),
    Column("chip", Boolean, nullable=False),
    Column("manufacturer", String(120), nullable=False),
    Column("state", String(10), nullable=False),
    Column("channel", String(63), nullable=False),
    Column("enrolled", BigInteger, nullable=False),
    Column("contact", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("seen", LargeBinary, nullable=False),
    Column("status", String(16), nullable=False),
    Column("level", String(2), nullable=False),
    Column("judged", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("release", String(80), nullable=False),
    Column("cause", String(600), nullable=False),
    Column("result", Text, nullable=False),
    Column("audit_sequence", BigInteger, nullable=False),
    Column("audit_hash", String(64), nullable=False),
    Column("audit_signed", BigInteger, nullable=False),
)
"""``ek`` is the SHA-256 of the endorsement key's name. ``version`` rises with each change that a judgement rests on."""

labels = Table(
    "labels",
    metadata,
    Column("host", String(36), ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("text", String(200), nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("head", LargeBinary(16), primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Index("nonces_expires", "expires"),
)
"""Those that were answered, until they are too old anyway."""

findings = Table(
    "findings",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""What verdicts found, once for all verdicts that found the same: canonical JSON, compressed (zlib)."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("host", String(36), ForeignKey("hosts.id", ondelete="CASCADE"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("level", String(2), nullable=False),
    Column("release", String(80), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("findings", String(64), ForeignKey("findings.digest"), nullable=False),
    Index("verdicts_host", "host", "number"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""Releases and what they name, by fs-verity digest."""

releases = Table(
    "releases",
    metadata,
    Column("channel", String(63), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("authority", String(10), nullable=False),
    Column("digest", String(64), ForeignKey("blobs.digest"), nullable=False),
    Column("identity", String(64), nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("opens", BigInteger, nullable=False),
    Column("closes", BigInteger, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
)
"""``closes``: until when the release before this one counts beside it."""

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("record", LargeBinary, nullable=False),
)
"""The fleet's own trail."""

host_audit = Table(
    "host_audit",
    metadata,
    Column("host", String(36), ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("event", String(120), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("record", LargeBinary, nullable=False),
)
"""The hosts' trails, as they brought them."""

alarms = Table(
    "alarms",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("host", String(36), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("text", String(600), nullable=False),
    Index("alarms_host", "host", "number"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("text", Text, nullable=False),
)
"""What administrators set for all processes: ``accounts``: ``fleet.account_rules``."""

admins = Table(
    "admins",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("password", String(300), nullable=False),
    Column("renew", Boolean, nullable=False),
    Column("locked", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
)
"""``password``: what ``fleet.passwords`` keeps. ``renew``: somebody else set it. ``locked``: by an administrator;
``until``: by failures, 0 where it is not. ``changed``: the password; ``last``: the last log-in."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("admin", String(36), ForeignKey("admins.id", ondelete="CASCADE"), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("origin", String(64), nullable=False),
    Index("sessions_admin", "admin"),
)
"""Log-ins that count, by the SHA-256 of what the browser shows."""

plans = Table(
    "plans",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("label", String(280), nullable=False),
    Column("allow", Text, nullable=False),
    Column("days", Integer, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("author", String(120), nullable=False),
)
"""What hosts may take; see ``fleet.plans``. ``allow``: ranges as people write them, by spaces."""

locks = Table(
    "locks",
    metadata,
    Column("host", String(36), ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("reason", String(300), nullable=False),
    Column("author", String(120), nullable=False),
)
"""Hosts that are to keep what they have."""

assigned = Table(
    "assigned",
    metadata,
    Column("host", String(36), ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)
"""Assignments as they were last published, for showing; what counts is what the repository has."""

rollouts = Table(
    "rollouts",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("channel", String(63), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("label", String(280), nullable=False),
    Column("stages", String(200), nullable=False),
    Column("threshold", Integer, nullable=False),
    Column("wait", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("why", String(300), nullable=False),
    Column("author", String(120), nullable=False),
)
"""Releases that come to more and more hosts; see ``fleet.rollouts``."""
