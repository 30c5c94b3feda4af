# SPDX-License-Identifier: Apache-2.0
"""Addresses of keys, and the file that says where they are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.addresses import LIMIT, FileAddress, TokenAddress, TpmAddress, parse_address, tpm_uri
from keys.errors import NoSuchKey, PublicKeyMalformed, SignersMalformed, UnknownSigner
from keys.files import create_key
from keys.roles import P256, P384
from keys.signers import declared, names_here, open_key, open_role, read_public

SECRET = b"secret"
PRINTABLE = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=32)


@given(
    token=PRINTABLE,
    label=PRINTABLE,
    serial=st.just("") | PRINTABLE,
    identifier=st.binary(max_size=20),
    module=st.none() | PRINTABLE,
)
def test_what_is_written_is_read_back(
    token: str, label: str, serial: str, identifier: bytes, module: str | None
) -> None:
    path = [f"token={quote(token, '')}", f"object={quote(label, '')}"]
    path += [f"serial={quote(serial, '')}"] if serial else []
    path += [f"id={quote(identifier, '')}"] if identifier else []
    query = f"?module-path=%2Flib%2F{quote(module, '')}" if module else ""
    assert parse_address(f"pkcs11:{';'.join(path)}{query}") == TokenAddress(
        token=token,
        serial=serial,
        label=label,
        identifier=identifier,
        module=Path("/lib/" + module) if module else None,
    )


@given(
    parts=st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), min_size=1, max_size=4),
    tcti=st.just("") | PRINTABLE,
    pin=st.none() | PRINTABLE,
)
def test_a_key_in_a_tpm_is_read_back(parts: list[str], tcti: str, pin: str | None) -> None:
    path = Path("/", *parts)
    query = [f"tcti={quote(tcti, '')}"] if tcti else []
    query += [f"pin-source=file:/run/{quote(pin, '')}"] if pin else []
    uri = tpm_uri(path) + ("?" + "&".join(query) if query else "")
    if len(uri) > LIMIT:
        with pytest.raises(UnknownSigner):
            parse_address(uri)
    else:
        expected = TpmAddress(path=path, tcti=tcti, pin_file=Path("/run/" + pin) if pin else None)
        assert parse_address(uri) == expected


@pytest.mark.parametrize("tcti", ["device:/dev/tpmrm0", "swtpm:host=localhost,port=2321", "tabrmd:bus_type=system"])
def test_a_tcti_stands_in_an_address_as_it_is(tcti: str) -> None:
    found = TpmAddress(path=Path("/srv/keys/timestamp-1.tpm"), tcti=tcti)
    assert parse_address(f"tpm:/srv/keys/timestamp-1.tpm?tcti={tcti}") == found


@given(st.text(max_size=60) | st.text("tpm:/ci-source?&=%4f", max_size=60).map("tpm:/".__add__))
def test_any_text_is_a_key_in_a_tpm_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except UnknownSigner:
        return
    assert isinstance(found, FileAddress | TokenAddress | TpmAddress)
    assert not isinstance(found, TpmAddress) or found.path.is_absolute()


@given(st.text(max_size=60) | st.text("pkcs1:token=object;id?&%4f/", max_size=60).map("pkcs11:".__add__))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except UnknownSigner:
        return
    assert isinstance(found, FileAddress | TokenAddress | TpmAddress)


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:",
        "pkcs11:token=a",
        "pkcs11:object=a",
        "pkcs11:token=a;object=b;object=c",
        "pkcs11:token=a;object=b;type=private",
        "pkcs11:token=a;object=b?pin-value=1234",
        "pkcs11:token=a;object=b?module-path=relative.so",
        "pkcs11:token=a;object=b?pin-source=pin",
        "pkcs11:token=a;object=b?module-path=/a&module-path=/b",
        "pkcs11:token=a;object=b;",
        "pkcs11:token=a;object=%zz",
        "pkcs11:token=a;object=%00",
        "pkcs11:token=a;object=%ff",
        "pkcs11:token=a object=b",
        "PKCS11:token=a;object=b",
        "tpm:handle=0x81000001",
        "tpm:",
        "tpm:/",
        "tpm:key.tpm",
        "tpm:/key.tpm?",
        "tpm:/key.tpm?tcti=",
        "tpm:/key.tpm?tcti=a&tcti=b",
        "tpm:/key.tpm?pin-value=1234",
        "tpm:/key.tpm?pin-source=pin",
        "tpm:/key%00.tpm",
        "tpm:/key%zz.tpm",
        "tpm:/key tpm",
        "file:/a\0b",
        "pkcs11:token=a;object=" + "b" * 3_000,
    ],
)
def test_what_could_mean_another_key_is_refused(uri: str) -> None:
    with pytest.raises(UnknownSigner):
        parse_address(uri)


@pytest.mark.parametrize("wrong", ["\udcff", "\U0010ffff", "\0", "'\""])
def test_what_is_wrong_with_a_long_address_is_a_short_line(wrong: str) -> None:
    for uri in (wrong * 600, f"pkcs11:token=a;{wrong * 600}", f"file:{wrong * 3000}"):
        with pytest.raises(UnknownSigner) as caught:
            parse_address(uri)
        assert len(caught.value.line()) < 900


def test_a_pin_file_may_be_named_with_or_without_file(tmp_path: Path) -> None:
    for text in ("/run/pin", "file:/run/pin"):
        found = parse_address(f"pkcs11:token=a;object=b?module-path=/lib/x.so&pin-source={text}")
        assert isinstance(found, TokenAddress)
        assert (found.module, found.pin_file) == (Path("/lib/x.so"), Path("/run/pin"))


def test_keys_are_files_unless_the_list_says_otherwise(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    made = {name: create_key(here / f"{name}.pem", P256, SECRET) for name in ("timestamp-1", "timestamp-10")}
    made["timestamp-2"] = create_key(there / "other.pem", P256, SECRET)
    (here / "timestamp-1a.pem").touch()
    (here / "signers.toml").write_text(f'[signers]\ntimestamp-2 = "file:{there}/other.pem"\n')
    assert names_here("timestamp", here) == ("timestamp-1", "timestamp-2", "timestamp-10")
    ids = {name: open_key(name, here, SECRET).public_key.keyid for name in made}
    assert len(set(ids.values())) == 3
    chosen = open_role("timestamp", here, SECRET, {ids["timestamp-2"], ids["timestamp-10"], "0" * 64})
    assert [signer.public_key.keyid for signer in chosen] == [ids["timestamp-2"], ids["timestamp-10"]]
    with pytest.raises(NoSuchKey, match="timestamp-3"):
        open_key("timestamp-3", here, SECRET)


def test_keys_that_a_tpm_made_lie_beside_the_others(tmp_path: Path) -> None:
    create_key(tmp_path / "timestamp-1.pem", P256, SECRET)
    for name in ("timestamp-2.tpm", "timestamp-3.tpm", "timestamp-4a.tpm", "other.tpm"):
        (tmp_path / name).touch()
    assert names_here("timestamp", tmp_path) == ("timestamp-1", "timestamp-2", "timestamp-3")
    assert declared(tmp_path)["timestamp-2"] == f"tpm:{tmp_path}/timestamp-2.tpm"
    # What the list says goes before.
    (tmp_path / "signers.toml").write_text('[signers]\ntimestamp-2 = "tpm:/other/key.tpm?tcti=device:/dev/tpmrm0"\n')
    assert declared(tmp_path)["timestamp-2"].startswith("tpm:/other")
    assert declared(tmp_path)["timestamp-3"] == f"tpm:{tmp_path}/timestamp-3.tpm"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "signers = 1",
        "[signers]\n[other]",
        "[signers]\nroot = 'file:/a'",
        "[signers]\nroot-x = 'file:/a'",
        "[signers]\nother-1 = 'file:/a'",
        "[signers]\nroot-1 = 1",
        "[signers",
        "\udcff",
    ],
)
def test_a_mistake_in_the_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "signers.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SignersMalformed, match=r"signers\.toml"):
        declared(tmp_path)


def test_a_public_key_is_read_from_pem(tmp_path: Path) -> None:
    create_key(tmp_path / "root-1.pem", P384, SECRET)
    key = open_key("root-1", tmp_path, SECRET).public_key
    public = tmp_path / "public"
    public.write_text(key.keyval["public"])
    assert read_public(public, P384) == key
    with pytest.raises(PublicKeyMalformed, match="not a secp256r1 key"):
        read_public(public, P256)
    for wrong in (b"", b"x", (tmp_path / "root-1.pem").read_bytes()):
        public.write_bytes(wrong)
        with pytest.raises(PublicKeyMalformed):
            read_public(public, P384)
