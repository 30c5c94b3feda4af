# SPDX-License-Identifier: Apache-2.0
"""The documentation is true where a machine can tell: links lead somewhere, tests and commands exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ADRS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
THREATS = ROOT / "docs/threat-model.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
GUARANTEE = re.compile(r"^\| G(\d+) \|.*$", re.MULTILINE)

EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """What a link can lead to inside a page: its headings, as forges spell them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def functions(path: Path) -> set[str]:
    """The test functions of a module."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_there_are_pages() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"} <= {page.name for page in PAGES}


@EACH
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{target}: no such file"
        assert there.resolve().is_relative_to(ROOT), f"{target}: outside"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


@EACH
def test_named_tests_exist(page: Path) -> None:
    for name, function in TEST.findall(page.read_text()):
        assert (ROOT / name).is_file(), f"{name}: no such file"
        assert function in functions(ROOT / name), f"{name} has no {function}"


@EACH
def test_lines_are_readable(page: Path) -> None:
    """Prose is wrapped; tables are not."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert len(line) <= 130 or line.startswith("|"), f"line {number} is too long"
        assert line == line.rstrip(), f"line {number} ends in white space"


def test_guarantees_are_numbered_and_each_is_shown() -> None:
    found = list(GUARANTEE.finditer(THREATS.read_text()))
    assert [int(match[1]) for match in found] == list(range(1, len(found) + 1))
    for match in found:
        assert TEST.search(match[0]), f"G{match[1]} names no test"


def test_decisions_are_in_the_index() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    rows = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \|$", index, re.MULTILINE)
    assert [name for _, _, name in rows] == [page.name for page in ADRS]
    for number, title, name in rows:
        assert (ROOT / "docs/adr" / name).read_text().startswith(f"# {number}: {title}\n")


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_decisions_are_short_and_whole(page: Path) -> None:
    text = page.read_text()
    assert len(text.splitlines()) <= 40
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert page.name.startswith(text[2:6])


def test_commands_in_the_guides_exist() -> None:
    """`vmgate GROUP VERB` as written, where both are plain words at the start of a code span or line."""
    from vmgate.main import COMMANDS, LazyGroup

    group = LazyGroup("vmgate")
    for page in PAGES:
        for name, verb in re.findall(r"(?:`|    )vmgate ([a-z]+)(?: ([a-z-]+))?", page.read_text()):
            assert name in COMMANDS, f"{page.name}: vmgate {name}"
            command = group.get_command(None, name)  # type: ignore[arg-type]
            verbs = getattr(command, "commands", {})
            assert not verbs or not verb or verb in verbs, f"{page.name}: vmgate {name} {verb}"


def test_documents_in_the_guide_are_ours() -> None:
    """Each type of document stands in the guide with its bound."""
    from documents.bundle import BundleIndex
    from documents.local_api import Request, Response
    from lab.documents import DOCUMENTS

    text = (ROOT / "docs/guide/formats.md").read_text()
    for kind in DOCUMENTS:
        assert kind.TYPE in text or kind.TYPE.removeprefix("vmgate.") in text, kind.TYPE
    for kind_type, limit in re.findall(r"^\| `([\w.-]+)` \| ([\d,]+) \|", text, re.MULTILINE):
        kind = next(kind for kind in DOCUMENTS if kind_type == kind.TYPE)
        assert int(limit.replace(",", "")) == kind.LIMIT, kind_type
    assert {BundleIndex, Request, Response} <= set(DOCUMENTS)


def test_verbs_in_the_guide_are_the_agents() -> None:
    """Read from the source: making the service would need a whole host."""
    text = (ROOT / "docs/guide/formats.md").read_text()
    section = text[text.index("## Local API") : text.index("## Fixed outputs")]
    written = set(re.findall(r"`((?:[a-z]+/[a-z]+)|status)`", section))
    sources = (ROOT / "agent/service.py", *sorted((ROOT / "agent").glob("*_verbs.py")))
    served = {verb for source in sources for verb in re.findall(r'"([a-z]+/[a-z]+|status)": ', source.read_text())}
    assert written == served


def test_settings_in_the_guide_are_ours() -> None:
    from agent.audit_settings import AuditSettings
    from agent.settings import Settings
    from agent.site_settings import SiteSettings
    from agent.update_settings import UpdateSettings

    host = (ROOT / "docs/guide/host.md").read_text()
    section = host[host.index("## Settings") : host.index("## Every day")]
    # Tables of their own: the guide to unattended updates has one, this guide the other.
    assert [*_written(section, Settings()), "update", "audit", "site"] == list(Settings.__slots__)
    example = section[section.index("[site]") : section.index("```\nA site brings")]
    assert re.findall(r"^([a-z]+) = ", example, re.MULTILINE) == list(SiteSettings.__slots__)
    section = host[host.index("## Audit") : host.index("## Files")]
    assert _written(section, AuditSettings()) == list(AuditSettings.__slots__)
    unattended = (ROOT / "docs/guide/unattended.md").read_text()
    section = unattended[unattended.index("## Settings") : unattended.index("## Waves")]
    assert _written(section, UpdateSettings()) == list(UpdateSettings.__slots__)


def _written(section: str, defaults: object) -> list[str]:
    """The keys in a section; each with the default that the code has."""
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`|empty) \|", section, re.MULTILINE)
    for key, written in rows:
        default = getattr(defaults, key)
        listed = isinstance(default, tuple)
        spelled = "[" + ", ".join(f'"{item}"' for item in default) + "]" if listed else str(default)
        assert spelled == written, key
    return [key for key, _ in rows]
