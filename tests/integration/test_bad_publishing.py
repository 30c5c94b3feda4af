# SPDX-License-Identifier: Apache-2.0
"""Bad input at the publisher's desk, by the real command: one line, the exit code, and the repository as it was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab import command
from lab.command import refused
from lab.host import Result
from lab.publisher import PASSPHRASE, Desk
from lab.world import copied


@pytest.fixture(scope="module")
def mine(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = copied(desk, tmp_path_factory.mktemp("desk"))
    (desk.folder / "passphrase").write_text(PASSPHRASE + "\n")
    return desk


def state(desk: Desk) -> Mapping[str, str]:
    return command.state(desk.repository, desk.keys)


def repo(desk: Desk, *arguments: str | Path) -> Result:
    """A command of the publisher, with the right passphrase and keys."""
    return command.run(
        "repo", *arguments, "--keys", desk.keys, cwd=desk.folder,
        VMGATE_PASSPHRASE_FILE=str(desk.folder / "passphrase"),
    )  # fmt: skip


@pytest.mark.parametrize(("passphrase", "exit_code"), [("wrong", 4), ("", 2), (PASSPHRASE + "x", 4)])
def test_a_wrong_passphrase_signs_nothing(mine: Desk, passphrase: str, exit_code: int) -> None:
    before = state(mine)
    file = mine.folder / "typed"
    file.write_text(passphrase)
    for verb in (["refresh", mine.repository], ["key"], ["release", mine.repository, mine.folder / "platform.toml"]):
        done = command.run("repo", *verb, "--keys", mine.keys, "--passphrase-file", file, cwd=mine.folder)
        # The image key has a passphrase of its own, and is never made twice.
        refused(done, exit_code if verb != ["key"] or not passphrase else 1)
    assert state(mine) == before


def test_without_a_terminal_nobody_is_asked_for_the_passphrase(mine: Desk) -> None:
    refusal = refused(command.run("repo", "refresh", mine.repository, "--keys", mine.keys), 2)
    assert "--passphrase-file" in refusal.remedy


def test_a_damaged_key_file_signs_nothing(mine: Desk) -> None:
    (key,) = mine.keys.glob("timestamp*.pem")
    good = key.read_bytes()
    try:
        for damage, exit_code in ((b"", 5), (good[:100], 4), (b"\0" * 300, 5)):
            key.write_bytes(damage)
            before = state(mine)
            refused(repo(mine, "refresh", mine.repository), exit_code)
            assert state(mine) == before
        key.unlink()
        refused(repo(mine, "refresh", mine.repository), 4)
    finally:
        key.write_bytes(good)
    assert repo(mine, "refresh", mine.repository).exit == 0


def test_keys_are_never_written_over(mine: Desk) -> None:
    before = state(mine)
    assert refused(repo(mine, "init", mine.repository), 1).code == "UP020"
    assert refused(repo(mine, "init", mine.folder / "another"), 1).code == "KY007"
    assert state(mine) == before


@pytest.mark.parametrize(
    ("old", "new", "exit_code"),
    [
        ("authority =", "autority =", 2),
        ("authority =", "authority =\n", 2),
        ("epoch = 1", "epoch = 0", 2),
        ("epoch = 1", "epoch = true", 2),
        ('channel = "platform"', 'channel = "../../platform"', 2),
        ('channel = "platform"', 'channel = "nonesuch"', 3),
        ("vars-1.fd", "nonesuch.fd", 3),
        ("AllowEmulation", "AllowEverything", 2),
        ("qemu-system-x86_", "nonesuch_", 2),
        ("max_vcpus = 2", "max_vcpus = -1", 2),
    ],
)
def test_a_platform_recipe_that_is_not_one_publishes_nothing(mine: Desk, old: str, new: str, exit_code: int) -> None:
    before = state(mine)
    recipe = mine.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024)
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new, 1))
    refused(repo(mine, "release", mine.repository, recipe), exit_code)
    assert state(mine) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "exit_code"),
    [
        ("workload.toml", "hello-1.img", "nonesuch.img", 3),
        ("workload.toml", 'definitions = ["hello.toml"]', 'definitions = ["nonesuch.toml"]', 3),
        ("workload.toml", 'hello = "', 'other = "', 2),
        ("hello.toml", "vcpus = 1", "cpus = 1", 2),
        ("hello.toml", "vcpus = 1", "vcpus = 0", 2),
        ("hello.toml", "vcpus = 1", "vcpus = 4", 6),
        ("hello.toml", 'class = "readonly"', 'class = "anything"', 2),
        ("hello.toml", 'name = "hello"', 'name = "../hello"', 2),
    ],
)
def test_a_workload_recipe_that_is_not_one_publishes_nothing(
    mine: Desk, file: str, old: str, new: str, exit_code: int
) -> None:
    before = state(mine)
    recipe = mine.write_workload(title="Bad", image="hello-1.img", accepts=(1, 9))
    path = mine.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    refused(repo(mine, "release", mine.repository, recipe), exit_code)
    assert state(mine) == before


def test_a_damaged_repository_is_refused(mine: Desk) -> None:
    for pattern in ("metadata/*.targets.json", "metadata/timestamp.json", "targets/releases/platform/*", "blobs/*/*"):
        path = min(mine.repository.glob(pattern))
        good = path.read_bytes()
        try:
            for damage in (b"", good[:-1] + bytes([good[-1] ^ 1]), good[: len(good) // 2]):
                path.write_bytes(damage)
                refused(command.run("repo", "verify", mine.repository), 5)
            path.unlink()
            refused(command.run("repo", "verify", mine.repository), 5)
        finally:
            path.write_bytes(good)
    assert command.run("repo", "verify", mine.repository).exit == 0


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    refused(command.run("repo", "verify", tmp_path), 5)
    refused(command.run("repo", "serve", tmp_path, "--port", "0"), 1)
    refused(command.run("bundle", "create", tmp_path, tmp_path / "bundle"), 5)
    assert list(tmp_path.iterdir()) == []


def test_the_firmware_tool_is_away(mine: Desk, tmp_path: Path) -> None:
    template = next(mine.folder.glob("ovmf/usr/share/OVMF/OVMF_VARS_4M.fd"))
    shutil.copy(template, tmp_path / "template.fd")
    done = command.run(
        "repo", "firmware", tmp_path / "template.fd", tmp_path / "out.fd",
        "--certificate", mine.keys / "image-1.crt", "--tool", "/usr/bin/false",
    )  # fmt: skip
    refused(done, 1)
    assert not (tmp_path / "out.fd").exists()
