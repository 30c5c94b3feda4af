# SPDX-License-Identifier: Apache-2.0
"""Findings as SARIF: what a code host needs to show each beside its line."""

from __future__ import annotations

import json

from hypervisor.lint import RULES, lint
from hypervisor.rules.together import TOGETHER
from hypervisor.sarif import sarif

XML = b"<domain type='kvm'>\n  <devices>\n    <vsock/>\n  </devices>\n</domain>\n"


def test_each_finding_points_at_its_rule_and_line() -> None:
    log = json.loads(json.dumps(sarif([("a%20b.xml", found) for found in lint(XML)], (*RULES, *TOGETHER), "1.2.3")))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("vmgate", "1.2.3")
    identities = [rule["id"] for rule in driver["rules"]]
    assert identities == sorted(set(identities))
    (vsock,) = [result for result in run["results"] if result["ruleId"] == "HV062"]
    assert identities[vsock["ruleIndex"]] == "HV062"
    assert vsock["level"] == "error"
    (place,) = vsock["locations"]
    assert place["physicalLocation"] == {"artifactLocation": {"uri": "a%20b.xml"}, "region": {"startLine": 3}}
    assert place["logicalLocations"] == [{"fullyQualifiedName": "/domain/devices/vsock"}]


def test_levels_are_those_of_sarif() -> None:
    log = sarif([("f", found) for found in lint(XML)], RULES, "1")
    assert {result["level"] for result in log["runs"][0]["results"]} <= {"error", "warning", "note"}


def test_what_cannot_be_read_has_no_line() -> None:
    log = sarif([("f", found) for found in lint(b"<domain")], RULES, "1")
    (result,) = log["runs"][0]["results"]
    assert "region" not in result["locations"][0]["physicalLocation"]
