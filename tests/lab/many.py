# SPDX-License-Identifier: Apache-2.0
"""A workload release of many small VMs with one image."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from lab.publisher import Desk


def release_many(desk: Desk, names: Sequence[str], memory_mib: int = 64) -> None:
    """Publish it; the image is ``hello-1.img`` of the desk."""
    recipe = desk.write_workload(title="Small", image="hello-1.img", accepts=(1, 9), memory_mib=memory_mib)
    one = (desk.folder / "hello.toml").read_text()
    for name in names:
        number = uuid.uuid5(uuid.NAMESPACE_DNS, name)
        text = one.replace('name = "hello"', f'name = "{name}"', 1)
        lines = [f'uuid = "{number}"' if line.startswith("uuid") else line for line in text.splitlines()]
        (desk.folder / f"{name}.toml").write_text("\n".join(lines) + "\n")
    files = ", ".join(f'"{name}.toml"' for name in names)
    recipe.write_text(recipe.read_text().replace('["hello.toml"]', f"[{files}]"))
    desk.release(recipe)
