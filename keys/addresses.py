# SPDX-License-Identifier: Apache-2.0
"""Where a key lies: in a file, in a TPM, or on a token. Opens nothing.

``file:`` and ``tpm:`` are followed by an absolute path. That of ``tpm:`` leads to the key's file and may have the
attributes ``tcti`` and ``pin-source`` behind a question mark, as in a URL. A token's key is a PKCS#11 URI (RFC 7512),
of which these attributes are known: ``token``, ``serial``, ``object``, ``id``, and in the query ``module-path`` and
``pin-source``. Others are refused, since they could mean another key than was found; so is ``pin-value``, since an
address is no place for a secret.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote_to_bytes

from keys.errors import UnknownSigner

LIMIT = 2048
"""Characters of an address."""

_FILE = "file:"
_PKCS11 = "pkcs11:"
_TPM = "tpm:"
_ATTRIBUTE = re.compile(r"([a-z-]+)=((?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?]|%[0-9A-Fa-f]{2})+)")
_PATH = ("token", "serial", "object", "id")
_QUERY = ("module-path", "pin-source")
_TPM_PATH = re.compile(r"/(?:[A-Za-z0-9\-._~:@!$'()*+,=&/]|%[0-9A-Fa-f]{2})+")
_TPM_QUERY = ("tcti", "pin-source")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAddress:
    """A key file."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAddress:
    """A key on a PKCS#11 token.

    Attributes:
        token: label of the token.
        serial: of the token; "" for any.
        label: of the key (``object``); "" for any.
        identifier: of the key (``id``); empty for any.
        module: the library that speaks to the token, if the address says so.
        pin_file: holds the PIN, if the address says so.
    """

    token: str
    serial: str = ""
    label: str = ""
    identifier: bytes = b""
    module: Path | None = None
    pin_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmAddress:
    """A key that a TPM made.

    Attributes:
        path: its file.
        tcti: how to reach the TPM; "" if the address does not say.
        pin_file: holds the PIN, if the address says so.
    """

    path: Path
    tcti: str = ""
    pin_file: Path | None = None


Address: TypeAlias = FileAddress | TokenAddress | TpmAddress


def parse_address(uri: str) -> Address:
    """Read an address.

    Raises:
        UnknownSigner: of another kind, malformed, or it does not name a token and a key.
    """
    if len(uri) > LIMIT:
        raise _unknown(uri[:40], "is too long")
    if uri.startswith(_PKCS11):
        return _parse_token(uri)
    if uri.startswith(_TPM):
        return _parse_tpm(uri)
    path = Path(uri.removeprefix(_FILE))
    if not uri.startswith(_FILE) or not path.is_absolute() or "\0" in uri:
        raise _unknown(uri, "is none of `file:/PATH`, `tpm:/PATH` and `pkcs11:token=...;object=...`")
    return FileAddress(path=path)


def tpm_uri(path: Path) -> str:
    """The address of a key's file; the path is absolute."""
    return _TPM + quote(os.fsencode(path), safe="/")


def _parse_tpm(uri: str) -> TpmAddress:
    path, mark, query = uri.removeprefix(_TPM).partition("?")
    asked = _attributes(uri, query, "&", _TPM_QUERY) if mark else {}
    plain = unquote_to_bytes(path)
    if not _TPM_PATH.fullmatch(path) or b"\0" in plain:
        raise _unknown(uri, "has no absolute path, with other characters than those of a URL written as %XX")
    return TpmAddress(path=Path(os.fsdecode(plain)), tcti=_text(uri, asked, "tcti"), pin_file=_pin_file(uri, asked))


def _parse_token(uri: str) -> TokenAddress:
    path, _, query = uri.removeprefix(_PKCS11).partition("?")
    named = _attributes(uri, path, ";", _PATH)
    asked = _attributes(uri, query, "&", _QUERY) if query else {}
    label, identifier = _text(uri, named, "object"), named.get("id", b"")
    token = _text(uri, named, "token")
    if not token or not (label or identifier):
        raise _unknown(uri, "does not name a token and an object or id")
    module = _file(uri, _text(uri, asked, "module-path"))
    return TokenAddress(
        token=token,
        serial=_text(uri, named, "serial"),
        label=label,
        identifier=identifier,
        module=module,
        pin_file=_pin_file(uri, asked),
    )


def _pin_file(uri: str, asked: dict[str, bytes]) -> Path | None:
    return _file(uri, _text(uri, asked, "pin-source").removeprefix(_FILE))


def _file(uri: str, place: str) -> Path | None:
    if place and not Path(place).is_absolute():
        raise _unknown(uri, "names a file by a path that is not absolute")
    return Path(place) if place else None


def _attributes(uri: str, part: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for text in part.split(separator):
        match = _ATTRIBUTE.fullmatch(text)
        if match is None or (separator == "&" and "&" in match[2]):
            raise _unknown(uri, f"has {text[:40]!r}, which is no attribute")
        if match[1] not in known or match[1] in found:
            raise _unknown(uri, f"has an attribute {match[1]!r} that is unknown or repeated")
        found[match[1]] = unquote_to_bytes(match[2])
    return found


def _text(uri: str, found: dict[str, bytes], name: str) -> str:
    try:
        text = found.get(name, b"").decode()
    except UnicodeDecodeError as error:
        raise _unknown(uri, f"has a {name} that is not UTF-8") from error
    if not text.isprintable():
        raise _unknown(uri, f"has a {name} with control characters")
    return text


def _unknown(uri: str, why: str) -> UnknownSigner:
    return UnknownSigner(
        "there is no such signer",
        cause=f"{uri!r:.200} {why}",
        remedy="name a key file, or a key in a TPM or on a token",
    )
