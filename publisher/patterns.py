# SPDX-License-Identifier: Apache-2.0
"""Files named by patterns such as ``debs/*.deb``. This module does not open them."""

from __future__ import annotations

from pathlib import Path


def matching(pattern: str, folder: Path) -> set[Path]:
    """The files that a pattern means, one at least; it is relative to ``folder``.

    Raises:
        ValueError: it is no pattern, or matches no file; the message goes on after the pattern.
    """
    whole = (folder / pattern).absolute()
    try:
        found = {path for path in Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))) if path.is_file()}
    except (ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"which is no pattern ({error})") from error
    if not found:
        raise ValueError("which matches no file")
    return found
