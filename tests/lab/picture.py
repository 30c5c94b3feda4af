# SPDX-License-Identifier: Apache-2.0
"""The picture of the way of the data, drawn from one table. ``PYTHONPATH=tests python -m lab.picture`` draws it anew.

SVG 1.1 without scripts, fonts or links: it looks the same in the manual, on a forge and on paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parents[2] / "docs/static/way-of-the-data.svg"
ROW, TOP, HEIGHT = 78, 64, 50
COLUMNS = {
    "publisher": (20, 200),
    "anywhere": (292, 180),
    "host": (562, 190),
    "tpm": (826, 170),
    "verifier": (1058, 170),
}
WIDTH, ROWS = 1248, 7


@dataclass(frozen=True, slots=True)
class Box:
    """A part, in a column and a row."""

    column: str
    row: int
    lines: tuple[str, ...]
    fill: str = "#ffffff"


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one part to another: straight where they share a row or a column, else with one corner."""

    start: str
    end: str
    label: str
    plain: bool = True
    first: str = "across"


FRAMES = (
    ("PUBLISHER", "publisher", "publisher"), ("ANYWHERE", "anywhere", "anywhere"), ("HOST", "host", "tpm"),
    ("VERIFIER", "verifier", "verifier"),
)  # fmt: skip
BOXES = {
    "parts": Box("publisher", 0, ("packages, firmware,", "images, definitions")),
    "plan": Box("publisher", 1, ("plan: digests, predicted", "PCR 13, TPM policies")),
    "repository": Box("anywhere", 1, ("repository: metadata,", "targets, packs, blobs")),
    "bundle": Box("anywhere", 2, ("bundle on a stick",)),
    "update": Box("host", 1, ("update: verified by TUF,", "staged, switched at once")),
    "store": Box("host", 2, ("content store",)),
    "measure": Box("host", 3, ("measure: digest,", "log, extend")),
    "appraise": Box("host", 4, ("appraise",), "#e8f1fb"),
    "gate": Box("host", 5, ("gate: yes or no",), "#fdeeda"),
    "vm": Box("host", 6, ("libvirt, QEMU:", "the VM")),
    "tpm": Box("tpm", 3, ("TPM: PCR 13 (VMM),", "PCR 12 (launches)")),
    "key": Box("tpm", 5, ("the VM's key",)),
    "judge": Box("verifier", 4, ("appraise: the same", "pure function"), "#e8f1fb"),
    "ear": Box("verifier", 5, ("result (EAR)",)),
}
ARROWS = (
    Arrow("parts", "plan", ""),
    Arrow("plan", "repository", "signed"),
    Arrow("repository", "bundle", ""),
    Arrow("repository", "update", "pulled"),
    Arrow("bundle", "update", "imported"),
    Arrow("update", "store", ""),
    Arrow("store", "measure", ""),
    Arrow("measure", "tpm", "extend"),
    Arrow("measure", "appraise", ""),
    Arrow("appraise", "gate", "verdict"),
    Arrow("gate", "vm", "start"),
    Arrow("tpm", "key", "unseals"),
    Arrow("gate", "key", "asks"),
    Arrow("key", "vm", "opens its TPM", first="down"),
    Arrow("tpm", "judge", "evidence: quote, logs"),
    Arrow("judge", "ear", ""),
    Arrow("appraise", "judge", "", plain=False),
)
STYLE = (
    "text{font-family:sans-serif;font-size:13px;fill:#1b1f24}"
    ".frame{fill:#f6f8fa;stroke:#d0d7de}.title{font-weight:bold;font-size:12px;fill:#57606a}"
    ".box{stroke:#57606a;stroke-width:1.2}.way{fill:none;stroke:#24292f;stroke-width:1.5;marker-end:url(#tip)}"
    ".same{fill:none;stroke:#0969da;stroke-width:1.2;stroke-dasharray:5 4}"
    ".label{font-size:12px;fill:#57606a;paint-order:stroke;stroke:#f6f8fa;stroke-width:4px}"
)
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#24292f"/></marker></defs>'
)
ABOUT = (
    "A publisher plans and signs; hosts pull from a repository of static files or import a bundle; a host stores, "
    "measures, appraises and asks its gate before a VM starts; a verifier appraises the host's evidence."
)


def picture() -> str:
    """The whole file."""
    bottom = TOP + ROWS * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img" aria-labelledby="t d">',
        f'<title id="t">The way of the data</title><desc id="d">{ABOUT}</desc>',
        f"<style>{STYLE}</style>{TIP}",
        f'<rect width="{WIDTH}" height="{bottom}" fill="#ffffff"/>',
    ]
    for title, first, last in FRAMES:
        left, right = COLUMNS[first][0] - 14, sum(COLUMNS[last]) + 14
        parts.append(f'<rect class="frame" x="{left}" y="12" width="{right - left}" height="{bottom - 24}" rx="8"/>')
        parts.append(f'<text class="title" x="{left + 14}" y="34">{title}</text>')
    parts += [_arrow(arrow) for arrow in ARROWS]
    parts += [_box(box) for box in BOXES.values()]
    return "\n".join([*parts, "</svg>", ""])


def _place(box: Box) -> tuple[int, int, int]:
    left, width = COLUMNS[box.column]
    return left, TOP + box.row * ROW, width


def _box(box: Box) -> str:
    left, top, width = _place(box)
    shape = f'<rect class="box" x="{left}" y="{top}" width="{width}" height="{HEIGHT}" rx="6" fill="{box.fill}"/>'
    first = top + HEIGHT // 2 + 5 - 8 * (len(box.lines) - 1)
    middle = left + width // 2
    lines = [
        f'<text x="{middle}" y="{first + 17 * number}" text-anchor="middle">{escape(line)}</text>'
        for number, line in enumerate(box.lines)
    ]
    return shape + "".join(lines)


def _arrow(arrow: Arrow) -> str:
    start, end = BOXES[arrow.start], BOXES[arrow.end]
    left, top, width = _place(start)
    other_left, other_top, other_width = _place(end)
    middle, other_middle = top + HEIGHT // 2, other_top + HEIGHT // 2
    rightwards = other_left > left
    if start.column == end.column:
        points = [(left + width // 2, top + HEIGHT), (left + width // 2, other_top)]
    elif start.row == end.row:
        points = [(left + width, middle), (other_left, middle)]
    elif arrow.first == "down":
        points = [
            (left + width // 2, top + HEIGHT),
            (left + width // 2, other_middle),
            (other_left + other_width, other_middle),
        ]
    elif end.row < start.row:
        turn = (left + width + other_left) // 2
        points = [(left + width, middle), (turn, middle), (turn, other_middle + 14), (other_left, other_middle + 14)]
    else:
        aim = other_left + other_width // 2
        points = [(left + width if rightwards else left, middle), (aim, middle), (aim, other_top)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    drawn = f'<path class="{"way" if arrow.plain else "same"}" d="{path}"/>'
    if not arrow.label:
        return drawn
    if start.column == end.column:
        x, y, anchor = points[0][0] + 8, points[0][1] + 18, "start"
    elif end.row < start.row:
        x, y, anchor = points[0][0] + 20, points[0][1] + 17, "start"
    elif arrow.first == "down":
        x, y, anchor = (points[1][0] + points[2][0]) // 2 + 6, points[1][1] - 7, "middle"
    else:
        x, y, anchor = (points[0][0] + points[1][0]) // 2, points[0][1] - 7, "middle"
    return drawn + f'<text class="label" x="{x}" y="{y}" text-anchor="{anchor}">{escape(arrow.label)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture())
