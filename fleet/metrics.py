# SPDX-License-Identifier: Apache-2.0
"""What a monitoring system is told of a fleet: numbers from the database, so that every process says the same.

In Prometheus' text format, by its library. Names no host. This module lets nobody in (``fleet.app`` does).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Table, func, select

from fleet.admins import listed as accounts
from fleet.hosts import counted, releases_run
from fleet.states import ACTIVE
from fleet.tables import alarms, assigned, audit, hosts, locks, sessions, tokens, verdicts

MEDIA: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Numbers(Collector):
    """Metrics that were made before."""

    def __init__(self, made: list[Metric]) -> None:
        self._made = made

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        yield from self._made


def told(connection: Connection, version: str, now: int) -> bytes:
    """All numbers now.

    Args:
        connection: reading.
        version: of vmgate.
        now: seconds since 1970 UTC.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(list(_metrics(connection, version, now))))
    return generate_latest(registry)


def _metrics(connection: Connection, version: str, now: int) -> Iterator[Metric]:
    yield _gauge("vmgate_fleet_build", "The version that serves.", {(version,): 1}, "version")
    standing = {(name,): count for name, count in counted(connection, now).items()}
    yield _gauge("vmgate_fleet_hosts", "Hosts by how they stand.", standing, "standing")
    run = {(release,): count for release, count in releases_run(connection)}
    yield _gauge("vmgate_fleet_hosts_release", "Active hosts by the release that was found.", run, "release")
    yield _counter("vmgate_fleet_attestations", "Verdicts that were kept.", _most(connection, verdicts, "number"))
    yield _counter("vmgate_fleet_audit_records", "Records of the fleet's trail.", _most(connection, audit, "sequence"))
    yield _counter("vmgate_fleet_alarms", "Alarms about trails of hosts.", _most(connection, alarms, "number"))
    yield _gauge("vmgate_fleet_hosts_locked", "Hosts that keep what they have.", {(): _count(connection, locks)})
    yield _gauge("vmgate_fleet_hosts_assigned", "Hosts with an assignment.", {(): _count(connection, assigned)})
    usable = (~tokens.c.withdrawn, tokens.c.used == 0, tokens.c.expires > now)
    count = connection.execute(select(func.count()).select_from(tokens).where(*usable)).scalar_one()
    yield _gauge("vmgate_fleet_tokens_usable", "Enrolment tokens that may be used.", {(): count})
    yield _gauge("vmgate_fleet_sessions", "Sessions of administrators.", {(): _count(connection, sessions)})
    states: dict[tuple[str, ...], int] = {}
    for account in accounts(connection, now):
        states[account["state"],] = states.get((account["state"],), 0) + 1
    yield _gauge("vmgate_fleet_administrators", "Accounts by state.", states, "state")
    heard = select(func.min(hosts.c.contact)).where(hosts.c.state == ACTIVE, hosts.c.contact > 0)
    oldest = connection.execute(heard).scalar_one_or_none() or 0
    yield _gauge("vmgate_fleet_oldest_contact_timestamp_seconds", "When the quietest host was heard.", {(): oldest})


def _gauge(name: str, about: str, values: Mapping[Any, int], *labels: str) -> Metric:
    """One with values by the texts of its labels."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family


def _counter(name: str, about: str, value: int) -> Metric:
    family = CounterMetricFamily(name, about)
    family.add_metric((), value)
    return family


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _most(connection: Connection, table: Table, column: str) -> int:
    found: Any = connection.execute(select(func.max(table.c[column]))).scalar_one_or_none()
    return int(found or 0)
