# SPDX-License-Identifier: Apache-2.0
"""How the manual is built: Sphinx reads the same Markdown that a forge shows. ``tox -e docs``; warnings are errors.

It makes no page: ``python -m lab.pages`` does, and tests compare. Nothing is fetched, neither here nor by a reader.
"""

from __future__ import annotations

from typing import Any

project = "vmgate"
author = "the vmgate project"
copyright = author  # noqa: A001  # Sphinx gives it this name
language = "en"
extensions = ["myst_parser"]
exclude_patterns = ["README.md"]
myst_heading_anchors = 4
nitpicky = True
keep_warnings = True

html_theme = "furo"
html_title = "vmgate"
html_static_path = ["static"]
html_css_files = ["vmgate.css"]
html_copy_source = False
html_show_sphinx = False

REACHED_FROM_AN_INDEX = ("adr/0", "benchmarks-")
"""Pages that an index lists: in the navigation they would push everything else aside."""


def setup(app: Any) -> None:
    """Sphinx calls it."""
    app.connect("doctree-read", _leave_out)


def _leave_out(app: Any, doctree: Any) -> None:
    if app.env.docname.startswith(REACHED_FROM_AN_INDEX):
        app.env.metadata[app.env.docname]["orphan"] = True
