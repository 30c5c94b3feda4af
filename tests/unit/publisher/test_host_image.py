# SPDX-License-Identifier: Apache-2.0
"""A described host image says what the real tools say of the same files, or it is not described at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from content.errors import ContentError, Missing
from documents.errors import VmgateError
from documents.host_image import HostImage
from measure.boot import PHASE_PATHS, pcr11
from publisher import host_image
from publisher.errors import FirmwareWrong, HostImageWrong, ProgramFailed
from publisher.firmware import (
    CERT_X509,
    GLOBAL,
    IMAGE_SECURITY,
    enrol,
    read_certificate,
    read_variables,
    signature_list,
)
from publisher.host_image import ImageParts, describe, list_files
from publisher.secure_boot import Announcement, states
from publisher.signing import ImageKey
from publisher.uki import MEASURED

MakeUki = Callable[..., Path]
MEASURE = "/lib/systemd/systemd-measure"
BLANK = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


@pytest.fixture
def tool(pytestconfig: pytest.Config) -> Path:
    cache = os.environ.get("VMGATE_CACHE", pytestconfig.rootpath / ".cache")
    return Path(cache) / "tools/bin/virt-fw-vars"


def sections(parts: ImageParts, folder: Path) -> dict[str, bytes]:
    """What a kernel image is made of, as objcopy takes it out again."""
    found = {}
    for name in (".osrel", ".cmdline", ".initrd", ".linux"):
        command = ["objcopy", "-O", "binary", "--only-section", name, parts.kernel, folder / "section"]
        subprocess.run(command, check=True, capture_output=True)
        found[name] = (folder / "section").read_bytes()
    return found


def changed(parts: ImageParts, make_uki: MakeUki, folder: Path, **texts: bytes | None) -> ImageParts:
    """The same with other sections, named without their dot; None leaves one out. Signed anew for db."""
    whole = sections(parts, folder) | {f".{name}": text for name, text in texts.items()}  # type: ignore[operator]
    return replace(parts, kernel=make_uki({name: text for name, text in whole.items() if text is not None}))


def test_the_files_are_those_that_a_host_could_run_or_be_set_up_by(image_parts: ImageParts) -> None:
    image = describe(image_parts)
    assert [entry.path for entry in image.files] == [
        "/etc/passwd",
        "/usr/bin/[",
        "/usr/bin/test",
        "/usr/lib/libx.so",
        "/usr/lib/systemd/system/dev-\\x2d.device",
        "/usr/share/tool/run",
    ]
    for entry in image.files:
        path = image_parts.root / entry.path[1:]
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        said = subprocess.run(["fsverity", "digest", "--compact", path], check=True, capture_output=True, text=True)
        assert entry.fsverity == said.stdout.strip()


def test_the_kernel_image_and_the_root_are_described(image_parts: ImageParts, tmp_path: Path) -> None:
    image = describe(image_parts)
    assert image.sections == tuple(
        (name, hashlib.sha256(text).hexdigest())
        for name, text in sorted(sections(image_parts, tmp_path).items(), key=lambda pair: MEASURED.index(pair[0]))
    )
    assert image.command_line == f"quiet roothash={image.root_hash}"
    dump = ["veritysetup", "verify", image_parts.root_image, image_parts.hash_tree, image.root_hash]
    subprocess.run(dump, check=True)
    assert image.phases == ("", "sysinit", "sysinit:ready")
    assert image.firmware == ()
    assert HostImage.parse(image.encode()) == image
    assert describe(image_parts) == image


def test_the_variables_are_those_that_virt_fw_vars_writes(image_parts: ImageParts, tool: Path, tmp_path: Path) -> None:
    image = describe(image_parts)
    enrol(BLANK, tmp_path / "vars.fd", image_parts.keys, tool)
    written = read_variables(tmp_path / "vars.fd", tool)
    guids = {"KEK": GLOBAL, "PK": GLOBAL, "db": IMAGE_SECURITY, "dbx": IMAGE_SECURITY}
    assert dict(image.variables) == {
        name: hashlib.sha256(written[name, guid][1]).hexdigest() for name, guid in guids.items()
    }
    # EFI_SIGNATURE_LIST: a header of 28 bytes, and in ours one EFI_SIGNATURE_DATA.
    assert image.authority == hashlib.sha256(written["db", IMAGE_SECURITY][1][28:]).hexdigest()


def _measured_by_firmware(name: str, guid: str, data: bytes) -> str:
    """SHA-256 of UEFI_VARIABLE_DATA, written out."""
    text = name.encode("utf-16-le")
    head = uuid.UUID(guid).bytes_le + len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    return hashlib.sha256(head + text + data).hexdigest()


def test_what_firmware_measures_of_secure_boot_is_told_for_now_and_for_what_is_announced(
    image_parts: ImageParts, image_keys: dict[str, ImageKey], tmp_path: Path
) -> None:
    (own,) = describe(image_parts).secure_boot
    other, current = (read_certificate(path) for path in (image_keys["other"].certificate, image_parts.keys.database))
    owner = image_parts.keys.owner
    microsoft = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
    db = signature_list(CERT_X509, microsoft, other) + signature_list(CERT_X509, owner, current)
    (tmp_path / "db.esl").write_bytes(db)
    (tmp_path / "dbx.esl").write_bytes(b"the next dbx")
    changes = (
        Announcement(variables={"db": tmp_path / "db.esl"}),
        Announcement(variables={"dbx": tmp_path / "dbx.esl"}),
    )
    first, grown, later = describe(replace(image_parts, announced=changes)).secure_boot
    assert first == own
    assert [grown.variables[i] == own.variables[i] for i in range(4)] == [True, True, False, True]
    assert grown.variables[2] == ("db", hashlib.sha256(db).hexdigest(), _measured_by_firmware("db", IMAGE_SECURITY, db))
    assert later.variables[:3] == grown.variables[:3]
    assert later.variables[3][2] == _measured_by_firmware("dbx", IMAGE_SECURITY, b"the next dbx")
    authority = owner.bytes_le + current
    assert {state.authority for state in (own, grown, later)} == {hashlib.sha256(authority).hexdigest()}
    assert later.authority_event == _measured_by_firmware("db", IMAGE_SECURITY, authority)
    # The kernel image is not signed by the other key, so that one cannot vouch for it.
    change = replace(changes[0], authority=image_keys["other"].certificate)
    with pytest.raises(ProgramFailed, match="sbverify"):
        describe(replace(image_parts, announced=(change,)))
    (tmp_path / "db.esl").write_bytes(signature_list(CERT_X509, microsoft, other))
    with pytest.raises(HostImageWrong, match="does not hold what vouches"):
        describe(replace(image_parts, announced=changes[:1]))


def test_an_announced_authority_is_found_in_the_announced_db(image_keys: dict[str, ImageKey], tmp_path: Path) -> None:
    other = image_keys["other"].certificate
    der, owner = read_certificate(other), uuid.uuid4()
    variables = dict.fromkeys(("KEK", "PK", "db", "dbx"), b"data")
    path = tmp_path / "db"
    change = Announcement(variables={"db": path}, authority=other)
    path.write_bytes(b"data" + signature_list(CERT_X509, owner, der))
    with pytest.raises(HostImageWrong, match="did not sign"):
        states(variables, b"data", (change,), b"")
    _, then = states(variables, b"data", (change,), der)
    assert then.authority == hashlib.sha256(owner.bytes_le + der).hexdigest()
    path.write_bytes(b"data")
    with pytest.raises(HostImageWrong, match="does not hold"):
        states(variables, b"data", (change,), der)


@pytest.mark.parametrize("more", [{}, {"splash": b"BM", "dtb": b"tree", "pcrpkey": b"key", "uname": b"6.1"}])
def test_pcr_11_is_what_systemd_measure_calculates(
    image_parts: ImageParts, make_uki: MakeUki, tmp_path: Path, more: dict[str, bytes]
) -> None:
    parts = changed(image_parts, make_uki, tmp_path, **more)
    image = describe(parts)
    whole = sections(image_parts, tmp_path) | {f".{name}": text for name, text in more.items()}
    command = [MEASURE, "calculate", "--bank=sha256", "--json=short"]
    for name, text in whole.items():
        (tmp_path / name).write_bytes(text)
        command += [f"--{name[1:]}={tmp_path / name}"] if name in MEASURED else []
    phases = [phase for phase in PHASE_PATHS if phase]
    command += [f"--phase={phase}" for phase in phases]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert {entry["phase"]: entry["hash"] for entry in said["sha256"]} == {
        phase: pcr11(image, phase) for phase in phases
    }


def test_what_is_not_signed_for_db_is_not_described(
    image_parts: ImageParts, make_uki: MakeUki, image_keys: dict[str, ImageKey], tmp_path: Path
) -> None:
    describe(image_parts)
    found = sections(image_parts, tmp_path)
    with pytest.raises(HostImageWrong, match="nobody signed it"):
        describe(replace(image_parts, kernel=make_uki(found, None)))
    with pytest.raises(HostImageWrong, match="did not sign it"):
        describe(replace(image_parts, kernel=make_uki(found, "other")))
    keys = replace(image_parts.keys, database=image_keys["other"].certificate)
    with pytest.raises(HostImageWrong, match="did not sign it"):
        describe(replace(image_parts, keys=keys))
    with pytest.raises(FirmwareWrong, match="not a certificate"):
        describe(replace(image_parts, keys=replace(keys, database=image_parts.root / "etc/passwd")))


def test_what_was_changed_after_it_was_signed_is_not_described(image_parts: ImageParts) -> None:
    """The certificate still lies beside the signature, but the signature is of something else."""
    whole = image_parts.kernel.read_bytes()
    assert whole.count(b"ID=test") == 1
    image_parts.kernel.write_bytes(whole.replace(b"ID=test", b"ID=evil"))
    with pytest.raises(ProgramFailed, match="sbverify"):
        describe(image_parts)


def test_a_root_that_is_not_the_command_lines_is_not_described(image_parts: ImageParts) -> None:
    describe(image_parts)
    image = bytearray(image_parts.root_image.read_bytes())
    image[-1] ^= 1
    image_parts.root_image.write_bytes(image)
    with pytest.raises(ProgramFailed, match="veritysetup"):
        describe(image_parts)


def test_a_hash_tree_of_another_root_is_not_described(image_parts: ImageParts) -> None:
    command = ["veritysetup", "format", "--salt", "00" * 32, image_parts.root_image, image_parts.hash_tree]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ProgramFailed, match="veritysetup"):
        describe(image_parts)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"quiet", "no roothash"),
        (b"roothash=%s roothash=%s", "2 roothash"),
        (b'roothash=%s "roothash=%s"', "2 roothash"),
        (b"roothash=%s usrhash=1 roothash=", "2 roothash"),
        (b"roothash=", "not 64 hexadecimal"),
        (b"roothash=%sa", "not 64 hexadecimal"),
        (b"roothash=%s\0", "not 64 hexadecimal"),
        (b'"roothash=%s"', "not 64 hexadecimal"),
        (b"rd.roothash=%s", "does not name the root hash"),
        (b"roothash=%s\nquiet", "'command_line'"),
        (b"roothash=%s \xc3\xa4", "'command_line'"),
        (b"roothash=%s " + b"x" * 4_000, "'command_line'"),
    ],
)
def test_a_command_line_that_names_no_root_or_two_is_refused(
    image_parts: ImageParts, make_uki: MakeUki, tmp_path: Path, line: bytes, cause: str
) -> None:
    root_hash = describe(image_parts).root_hash.encode()
    # Not at the end, where NULs and newlines belong to no word.
    parts = changed(image_parts, make_uki, tmp_path, cmdline=line.replace(b"%s", root_hash) + b" ro")
    with pytest.raises(HostImageWrong, match=cause) as caught:
        describe(parts)
    assert caught.value.line().isprintable()


def test_a_kernel_image_without_an_initrd_is_refused(
    image_parts: ImageParts, make_uki: MakeUki, tmp_path: Path
) -> None:
    with pytest.raises(HostImageWrong, match="its initrd"):
        describe(changed(image_parts, make_uki, tmp_path, initrd=None))


@pytest.mark.parametrize("name", ["usr/bin/a b", "etc/ä", "etc/new\nline", "usr/lib/\udcff", "etc/" + "x" * 255])
def test_a_name_that_cannot_be_listed_is_named(image_parts: ImageParts, name: str) -> None:
    (image_parts.root / name).write_bytes(b"")
    with pytest.raises(HostImageWrong, match="cannot be listed") as caught:
        describe(image_parts)
    assert ascii(f"/{name}") in caught.value.cause
    assert caught.value.line().isprintable()


def test_a_name_of_data_may_be_any(image_parts: ImageParts) -> None:
    before = describe(image_parts)
    (image_parts.root / "usr/share/doc/ä b").write_bytes(b"")
    assert describe(image_parts) == before


def test_a_tree_without_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "usr/share").mkdir(parents=True)
    (root / "usr/share/text").write_bytes(b"data")
    (root / "etc").symlink_to("/etc")
    with pytest.raises(HostImageWrong, match="no file to list"):
        list_files(root)
    for number in range(3):
        (root / f"usr/{number}").write_bytes(b"x")
    assert len(list_files(root)) == 3
    monkeypatch.setattr(host_image, "MAX_FILES", 2)
    with pytest.raises(HostImageWrong, match="more than 2 files"):
        list_files(root)


def test_what_is_no_regular_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    os.mkfifo(tmp_path / "usr/bin/pipe")
    (tmp_path / "usr/bin/link").symlink_to("file")
    (tmp_path / "usr/lib").symlink_to("bin")
    (tmp_path / "usr/bin/file").write_bytes(b"x")
    assert [entry.path for entry in list_files(tmp_path)] == ["/usr/bin/file"]


def test_a_folder_as_deep_as_a_path_can_be_is_listed(tmp_path: Path) -> None:
    deep = tmp_path / "etc" / "/".join("d" * 120)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    (found,) = list_files(tmp_path)
    assert found.path == f"/etc/{'/'.join('d' * 120)}/file"


@pytest.mark.parametrize("part", ["kernel", "root", "root_image", "hash_tree"])
def test_what_is_not_there_is_named(image_parts: ImageParts, part: str) -> None:
    absent = image_parts.root / "absent"
    with pytest.raises(VmgateError) as caught:
        describe(replace(image_parts, **{part: absent}))  # type: ignore[arg-type]
    assert isinstance(caught.value, Missing | ProgramFailed)


def test_a_tree_that_is_a_file_is_refused(image_parts: ImageParts) -> None:
    with pytest.raises(ContentError):
        list_files(image_parts.kernel)
