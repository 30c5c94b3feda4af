# SPDX-License-Identifier: Apache-2.0
"""Borders that import-linter does not know: the standard library, the file system, and what an import may do.

``content.durable`` is the one way to change files, so that the crash tests own every such change.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap

import pytest

from lab.source import PACKAGES, Module, modules

# Modules that change files by themselves, each with its reason.
WRITES_ALLOWED = {
    "content.durable": "it is the one way",
    "content.effects": "the system calls that durable is made of; import-linter keeps everyone else away",
    "agent.server": "the mode of its own socket, which does not outlive a boot",
}
# Names that write wherever they stand; `.replace` and `.open` are looked at more closely below.
WRITING_METHODS = {
    "chmod", "hardlink_to", "lchmod", "mkdir", "rename", "rmdir", "symlink_to", "touch", "unlink",
    "write_bytes", "write_text", "extractall",
}  # fmt: skip
WRITING_FUNCTIONS = {
    "os": {
        "chmod", "chown", "fchmod", "fchown", "ftruncate", "link", "makedirs", "mkdir", "mkfifo", "mknod", "remove",
        "removedirs", "rename", "renames", "replace", "rmdir", "symlink", "truncate", "unlink",
    },
    "shutil": {"chown", "copy", "copy2", "copyfile", "copyfileobj", "copymode", "copystat", "copytree", "move",
               "rmtree", "unpack_archive"},
    "tempfile": {"NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp"},
}  # fmt: skip
# documents says what is said, and touches nothing.
DOCUMENTS_NEVER = {
    "asyncio", "http", "io", "os", "pathlib", "random", "secrets", "shutil", "socket", "sqlite3", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib",
}  # fmt: skip


def test_documents_stands_on_the_standard_library_alone() -> None:
    allowed = set(sys.stdlib_module_names) | {"documents"}
    foreign = [
        f"{m.name} -> {name}"
        for m in modules()
        if m.package == "documents"
        for name in m.imports()
        if name.partition(".")[0] not in allowed - DOCUMENTS_NEVER
    ]
    assert not foreign


def test_the_hook_imports_nothing_of_ours() -> None:
    """libvirt runs it as ``python3 -I -S``: the standard library is all there is."""
    hook = next(m for m in modules() if m.name == "agent.hook_script")
    assert not [name for name in hook.imports() if name.partition(".")[0] not in sys.stdlib_module_names]


def test_a_process_that_hashes_imports_nothing_of_ours() -> None:
    """It is run as ``python3 -I -S`` as well, so that it starts at once."""
    worker = next(m for m in modules() if m.name == "content.hash_worker")
    assert not [name for name in worker.imports() if name.partition(".")[0] not in sys.stdlib_module_names]


def test_only_content_durable_changes_files() -> None:
    writers = [
        f"{m.name}:{node.lineno} {ast.unparse(node.func)}"
        for m in modules()
        if m.name not in WRITES_ALLOWED
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Call) and _writes(node)
    ]
    assert not writers


@pytest.mark.parametrize(
    ("code", "writes"),
    [
        ("open(p)", False),
        ("open(p, 'rb')", False),
        ("open(p, 'wb')", True),
        ("open(p, mode='a')", True),
        ("p.open('r+')", True),
        ("p.open()", False),
        ("p.write_text('x')", True),
        ("text.replace('a', 'b')", False),
        ("when.replace(tzinfo=UTC)", False),
        ("p.replace(q)", True),
        ("os.replace(p, q)", True),
        ("os.open(p, os.O_RDONLY)", False),
        ("os.open(p, os.O_WRONLY | os.O_CREAT)", True),
        ("os.open(os.devnull, os.O_WRONLY)", False),
        ("durable.mkdir(p)", False),
        ("shutil.which('x')", False),
        ("shutil.rmtree(p)", True),
    ],
)
def test_the_write_check_knows_a_write(code: str, writes: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _writes(call) is writes


def _writes(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id="open"):
            return _write_mode(call, 1)
        case ast.Name(id=name):
            return name in WRITING_FUNCTIONS["tempfile"]
        case ast.Attribute(value=ast.Name(id="durable")):
            return False
        case ast.Attribute(value=ast.Name(id="os"), attr="open"):
            text = ast.unparse(call)
            flags = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND")
            return "os.devnull" not in text and any(flag in text for flag in flags)
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in WRITING_FUNCTIONS:
            return name in WRITING_FUNCTIONS[owner]
        case ast.Attribute(attr="open"):
            return _write_mode(call, 0)
        case ast.Attribute(attr="replace"):
            return len(call.args) == 1 and not call.keywords
        case ast.Attribute(attr=name):
            return name in WRITING_METHODS
        case _:
            return False


def _write_mode(call: ast.Call, position: int) -> bool:
    given = [k.value for k in call.keywords if k.arg == "mode"] + call.args[position : position + 1]
    return any(isinstance(m, ast.Constant) and isinstance(m.value, str) and set("wax+") & set(m.value) for m in given)


IMPORT_EVERYTHING = """
    import importlib, io, os, sys
    ours, names = sys.argv[1].split(","), sys.argv[2].split(",")
    EVENTS = {"os.mkdir", "os.remove", "os.rename", "os.symlink", "socket.bind", "socket.connect", "socket.__new__",
              "subprocess.Popen", "os.system", "os.fork", "sqlite3.connect", "os.putenv", "signal.pthread_kill"}
    found = []

    def culprit():
        frame = sys._getframe(2)
        while frame is not None:
            package = frame.f_globals.get("__name__", "").partition(".")[0]
            if package in ours:
                return frame.f_globals["__name__"]
            if "site-packages" in frame.f_code.co_filename:
                return None
            frame = frame.f_back

    def hook(event, args):
        writing = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in EVENTS or writing) and (module := culprit()):
            found.append(f"{module}: {event} {args[:1]}")

    sys.addaudithook(hook)
    for name in names:
        importlib.import_module(name)
    for line in found:
        print(line)
    """


def test_an_import_does_nothing_but_import() -> None:
    names = [m.name for m in modules() if not m.name.endswith("__main__")]
    run = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(IMPORT_EVERYTHING), ",".join(PACKAGES), ",".join(names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("package", ["fleet", "publisher", "documents", "content", "keys", "updater"])
def test_no_tpm_and_no_libvirt_is_loaded(package: str) -> None:
    """import-linter reads the source; this looks at a real process."""
    names = [m.name for m in modules() if m.package == package and not m.name.endswith("__main__")]
    assert _loaded(names).isdisjoint({"tpm2_pytss", "libvirt", "libvirtmod"})


def _loaded(names: list[str]) -> set[str]:
    code = "import importlib, sys\nfor n in sys.argv[1:]: importlib.import_module(n)\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_every_module_is_known_to_one_package() -> None:
    strays: list[Module] = [m for m in modules() if m.package not in PACKAGES]
    assert not strays
