# SPDX-License-Identifier: Apache-2.0
"""The source of vmgate as the environment has it, parsed: what the architecture tests look at.

Nothing of vmgate is imported here; a package is found by its spec alone.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = (
    "vmgate",
    "publisher",
    "agent",
    "fleet",
    "updater",
    "measure",
    "hypervisor",
    "keys",
    "content",
    "documents",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module: its dotted name (a package has its own name), file, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The top-level name."""
        return self.name.partition(".")[0]

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def imports(self) -> Iterator[str]:
        """The full dotted names of all that is imported, wherever in the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""


def folder(package: str) -> Path:
    """Where the environment would import a top-level package from."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise LookupError(f"{package} is not installed, or has no __init__.py")
    return Path(spec.origin).parent


@cache
def modules() -> tuple[Module, ...]:
    """Every module of every package."""
    return tuple(_modules())


def _modules() -> Iterator[Module]:
    for package in PACKAGES:
        root = folder(package)
        for path in sorted(root.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            parts = [package, *path.relative_to(root).with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield Module(name=name, path=path, text=text, tree=ast.parse(text, str(path)))
