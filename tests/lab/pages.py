# SPDX-License-Identifier: Apache-2.0
"""All pages that are made from code, at once. ``PYTHONPATH=tests python -m lab.pages`` writes them anew.

Three are not here, since they take minutes: the crash matrix, the table of what opens when, and the benchmarks.
"""

from __future__ import annotations

from lab import audit_page, commands_page, errors_page, picture, requirements_page, roles_page, rules_page

PAGES = {
    audit_page.PAGE: audit_page.page,
    commands_page.PAGE: commands_page.page,
    errors_page.PAGE: errors_page.page,
    picture.PICTURE: picture.picture,
    requirements_page.PAGE: requirements_page.page,
    roles_page.PAGE: roles_page.page,
    rules_page.PAGE: rules_page.page,
}

if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page())
