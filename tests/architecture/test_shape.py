# SPDX-License-Identifier: Apache-2.0
"""The shape that every module keeps: small, named for one idea, honest about what it is.

Imports between packages are the business of import-linter; see ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import re

import grimp

from lab.source import PACKAGES, Module, folder, modules

MODULE_LINES = 400
FUNCTION_LINES = 60
FORBIDDEN_NAME = re.compile(r"^_?(util|utils|helper|helpers|common|misc|base)$")
SPDX = "# SPDX-License-Identifier: Apache-2.0"

# The entry points of processes, and of judging: the only places that may catch what nobody foresaw.
BROAD_EXCEPT = {
    "vmgate.main": "turns a bug into one line and exit 1",
    "agent.server": "a bug in one request must not end the service that says no",
    "fleet.database": "somebody waits for each job of the writer, whose thread must outlive a bug in one",
    "fleet.verifier": "a bug in judging evidence is a no, and never no answer",
}


def test_every_folder_with_code_is_a_package() -> None:
    missing = [
        str(sub)
        for package in PACKAGES
        for sub in {path.parent for path in folder(package).rglob("*.py")}
        if not (sub / "__init__.py").is_file()
    ]
    assert not missing


def test_modules_are_short() -> None:
    long = {m.name: lines for m in modules() if (lines := len(m.text.splitlines())) > MODULE_LINES}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{m.name}:{f.name}": lines
        for m in modules()
        for f in m.functions()
        if (lines := (f.end_lineno or f.lineno) - f.lineno + 1) > FUNCTION_LINES
    }
    assert not long


def test_modules_are_named_for_what_they_are() -> None:
    assert not [m.name for m in modules() if FORBIDDEN_NAME.match(m.name.rpartition(".")[2])]


def test_modules_open_with_licence_and_docstring() -> None:
    bare = [m.name for m in modules() if _opening(m) != SPDX or not ast.get_docstring(m.tree)]
    assert not bare


def _opening(module: Module) -> str:
    """The first line, or the second where the first says which interpreter runs the file."""
    lines = [line for line in module.text.splitlines()[:2] if not line.startswith("#!")]
    return lines[0] if lines else ""


def test_there_are_no_import_cycles() -> None:
    graph = grimp.build_graph(*PACKAGES)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert not _cyclic(imports)


def _cyclic(imports: dict[str, set[str]]) -> set[str]:
    """What stays when modules that import nobody, or that nobody imports, are taken away again and again."""
    left = {name: set(targets) for name, targets in imports.items()}
    while left:
        imported = set().union(*left.values())
        loose = {name for name, targets in left.items() if not targets & left.keys() or name not in imported}
        if not loose:
            break
        left = {name: targets - loose for name, targets in left.items() if name not in loose}
    return set(left)


def test_the_cycle_check_finds_a_cycle() -> None:
    assert _cyclic({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == {"a", "b"}
    assert not _cyclic({"a": {"b"}, "b": {"c"}, "c": set()})


def test_nobody_uses_global() -> None:
    assert not [m.name for m in modules() for node in ast.walk(m.tree) if isinstance(node, ast.Global)]


def test_only_entry_points_catch_everything() -> None:
    broad = {
        f"{m.name}:{node.lineno}"
        for m in modules()
        if m.name not in BROAD_EXCEPT
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    }
    assert not broad


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Catches everything and does not raise it again once it has cleaned up."""
    match handler.type:
        case None:
            names = {"BaseException"}
        case ast.Tuple(elts=elements):
            names = {e.id for e in elements if isinstance(e, ast.Name)}
        case ast.Name(id=name):
            names = {name}
        case _:
            names = set()
    last = handler.body[-1]
    return bool(names & {"Exception", "BaseException"}) and not (isinstance(last, ast.Raise) and last.exc is None)


def test_verify_raises_and_never_returns_a_bool() -> None:
    wrong = [
        f"{m.name}:{f.name}"
        for m in modules()
        for f in m.functions()
        if f.name.startswith("verify") and isinstance(f.returns, ast.Name) and f.returns.id == "bool"
    ]
    assert not wrong


def test_only_the_command_and_the_hook_end_the_process() -> None:
    ending = [
        f"{m.name}:{node.lineno}"
        for m in modules()
        if m.package != "vmgate" and m.name != "agent.hook_script"
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Name | ast.Attribute)
        if ast.unparse(node) in {"sys.exit", "os._exit", "SystemExit", "os.abort"}
    ]
    assert not ending


def test_data_classes_are_frozen() -> None:
    """A record does not change after it was checked; what has state is a plain class."""
    loose = [
        f"{m.name}:{node.name}"
        for m in modules()
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ClassDef) and any(_is_loose_dataclass(d) for d in node.decorator_list)
    ]
    assert not loose


def _is_loose_dataclass(decorator: ast.expr) -> bool:
    text = ast.unparse(decorator)
    return re.match(r"(dataclasses\.)?dataclass\b", text) is not None and "frozen=True" not in text


def test_package_sizes_are_real() -> None:
    """All packages were seen; an empty list above would prove nothing."""
    seen: dict[str, list[Module]] = {package: [m for m in modules() if m.package == package] for package in PACKAGES}
    assert all(seen.values()), {package for package, found in seen.items() if not found}
