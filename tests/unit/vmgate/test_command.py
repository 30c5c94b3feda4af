# SPDX-License-Identifier: Apache-2.0
"""The command itself: help, arguments that make no sense, interruption, and standard output that goes away."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import yaml

from lab import command
from lab.command import GUARD, clean_environment, refused
from lab.publisher import VMGATE
from vmgate.main import COMMANDS, cli

CONTEXT = click.Context(cli, info_name="vmgate")


def verbs() -> list[list[str]]:
    """Every group, verb and top-level command, as one types it."""
    found: list[list[str]] = []
    for name in cli.list_commands(CONTEXT):
        top = cli.get_command(CONTEXT, name)
        assert top is not None
        found.append([name])
        if isinstance(top, click.Group):
            found += [[name, verb] for verb in top.list_commands(CONTEXT)]
    return found


def test_help_lists_every_group_and_loads_none(tmp_path: Path) -> None:
    done = command.run("--help", cwd=tmp_path)
    assert (done.exit, done.err) == (0, "")
    listed = re.findall(r"^  ([a-z]+)  ", done.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == sorted(COMMANDS)
    loaded = command.run("--help", before=("env", "PYTHONVERBOSE=1")).err
    for heavy in ("tpm2_pytss", "libvirt", "rich", "tuf", "cryptography", "yaml", "lxml", "requests"):
        assert f"import '{heavy}'" not in loaded


@pytest.mark.parametrize("words", verbs(), ids=" ".join)
def test_every_verb_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from vmgate.main import run

    assert run([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: vmgate {' '.join(words)} ")
    assert err == ""
    # What it does is said, and so is each option.
    assert len(out.splitlines()[2].split()) > 2
    assert not re.search(r"^  (-\S+, )?--\S+( [A-Z]+)?$", out.replace("\n" + " " * 20, " "), re.MULTILINE)


def test_the_help_of_the_list_is_the_help_of_the_command() -> None:
    for name, (_, text) in COMMANDS.items():
        found = cli.get_command(CONTEXT, name)
        assert found is not None
        assert found.name == name
        assert text.endswith(".")


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_version(output: str) -> None:
    done = command.run("version", "-o", output)
    assert (done.exit, done.err) == (0, "")
    expected = {"api_version": 1, "version": version("vmgate")}
    if output == "table":
        assert done.out == f"vmgate {version('vmgate')}\n"
    else:
        assert (json.loads(done.out) if output == "json" else yaml.safe_load(done.out)) == expected


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["vm"],
        ["nonesuch"],
        ["vm", "nonesuch"],
        ["--nonesuch"],
        ["vm", "list", "--nonesuch"],
        ["vm", "start"],
        ["vm", "start", "one", "two"],
        ["version", "-o", "xml"],
        ["init"],
        ["audit", "list", "--last", "0"],
        ["audit", "list", "--last", "many"],
        ["attest", "verify", "/nonexistent"],
        ["repo", "serve", "/", "--port", "70000"],
        ["repo", "firmware", "/etc/passwd", "/nonexistent/x", "--certificate", "/etc/passwd", "--owner", "nobody"],
        ["nonesuch\x1b[31m\nerror[XX000]: forged"],
        ["version", "-o", "\u202e\x9b"],
    ],
    ids=repr,
)
def test_arguments_that_make_no_sense(words: list[str]) -> None:
    done = command.run(*words)
    refusal = refused(done, 2)
    assert refusal.code == "VG002"
    assert "--help" in refusal.remedy
    assert done.out == ""


def test_a_code_that_nothing_prints() -> None:
    for code in ("XX999", "", "\x1b[2J", "AG", "A" * 5_000):
        assert refused(command.run("explain", code), 3).code == "VG003"


def test_an_interruption_is_told_from_a_failure(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    process = subprocess.Popen(
        [VMGATE, "repo", "serve", tmp_path, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=GUARD)
    assert (process.returncode, err) == (130, "\ninterrupted\n")


@pytest.mark.parametrize("words", [["version"], ["explain", "AG010"], ["--help"], ["completion", "bash"]], ids=" ".join)
def test_a_reader_who_left_is_no_failure_worth_a_word(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [VMGATE, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=GUARD,
            env=clean_environment(),
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_output_that_has_no_room_is_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [VMGATE, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=GUARD
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error[VG001]: the result was not printed; ")
    assert len(done.stderr.splitlines()) == 1


def test_output_that_is_closed_is_no_failure() -> None:
    done = command.run("version", before=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.exit, done.out, done.err) == (0, "", "")


def test_a_bug_is_one_line_and_a_traceback_only_for_who_asks(tmp_path: Path) -> None:
    # An environment without its dependencies stands for a bug: nobody foresaw it.
    (tmp_path / "lxml").mkdir()
    (tmp_path / "lxml/__init__.py").write_text("raise RuntimeError('first line\\nsecond line; \\x1b[31m')\n")
    (tmp_path / "domain.xml").write_text("<domain/>")
    words = ("vm", "lint", tmp_path / "domain.xml")
    refusal = refused(command.run(*words, PYTHONPATH=str(tmp_path)), 1)
    assert refusal.code == "VG001"
    assert "VMGATE_TRACEBACK" in refusal.remedy
    shown = command.run(*words, PYTHONPATH=str(tmp_path), VMGATE_TRACEBACK="1")
    assert "Traceback" in shown.err


def test_the_names_of_other_programs_in_the_working_directory_are_not_run(tmp_path: Path) -> None:
    for name in ("keys", "agent", "click", "documents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('planted')\n")
    assert command.run("version", cwd=tmp_path).exit == 0


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_prints_a_script(shell: str) -> None:
    done = command.run("completion", shell)
    assert (done.exit, done.err) == (0, "")
    assert f"_VMGATE_COMPLETE={shell}_complete" in done.out
    assert command.run(_VMGATE_COMPLETE=f"{shell}_source").out.strip() == done.out.strip()
    refused(command.run("completion", "nonesuch"), 2)


def test_completion_knows_groups_verbs_and_options(tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(command.run("completion", "bash").out)
    assert subprocess.run(["bash", "-n", script], check=False, timeout=GUARD).returncode == 0
    for typed, expected in (
        (["vmgate", "up"], "update"),
        (["vmgate", "vm", "st"], "start"),
        (["vmgate", "vm", "list", "--ro"], "--root"),
        (["vmgate", "version", "-o", "js"], "json"),
    ):
        done = command.run(_VMGATE_COMPLETE="bash_complete", COMP_WORDS=" ".join(typed), COMP_CWORD=str(len(typed) - 1))
        assert expected in [line.partition(",")[2] for line in done.out.splitlines()], typed
        assert done.err == ""


def test_the_command_is_the_one_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"vmgate": "vmgate.main:main"}
