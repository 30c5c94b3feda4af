# SPDX-License-Identifier: Apache-2.0
"""What a log server's certificate must say beyond its path: that it is a server's, and this server's.

The TLS library checks, before any of this: signatures and path up to the administrator's authorities, validity times,
basic constraints and key usage of authorities, and revocation (FIA_X509_EXT.1, RFC 5280 section 6). Here come the name
(RFC 5425 section 5.2) and the purpose. Names match as a whole: a wildcard names no log server. The common name counts
for nothing (RFC 6125, 6.4.4). Pure; nothing is read or sent.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from agent.errors import ServerRefused

MAX_CERTIFICATE = 100_000
"""Bytes of a certificate."""

MAX_TOLD = 20
"""Names that an error repeats."""


def verify_server(untrusted_certificate: bytes, name: str) -> None:
    """Require that a certificate is for a server of this name.

    Args:
        untrusted_certificate: in DER; its path has been verified.
        name: DNS name or IP address that the administrator gave.

    Raises:
        ServerRefused: it is not, or cannot be read.
    """
    if len(untrusted_certificate) > MAX_CERTIFICATE:
        raise refused("its certificate is too large")
    try:
        certificate = x509.load_der_x509_certificate(untrusted_certificate)
        extensions = certificate.extensions
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise refused("its certificate cannot be read") from error
    _require_purpose(extensions)
    presented = _names(extensions)
    if _normal(name) not in presented:
        told = ", ".join(sorted(presented)[:MAX_TOLD]) or "no name"
        raise refused(f"its certificate is for {told} and not for {name}")


def _require_purpose(extensions: x509.Extensions) -> None:
    """FIA_X509_EXT.1.1: certificates of TLS servers have the purpose id-kp 1; one without any purpose is refused."""
    try:
        usages = extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    except x509.ExtensionNotFound as error:
        raise refused("its certificate has no extended key usage") from error
    if not isinstance(usages, x509.ExtendedKeyUsage) or ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise refused("its certificate is not for TLS servers (extended key usage)")


def _names(extensions: x509.Extensions) -> frozenset[str]:
    try:
        names = extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound as error:
        raise refused("its certificate has no subject alternative name") from error
    if not isinstance(names, x509.SubjectAlternativeName):
        raise refused("its certificate has no subject alternative name")
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return frozenset({name.lower() for name in names.get_values_for_type(x509.DNSName)} | addresses)


def _normal(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def refused(cause: str) -> ServerRefused:
    """The error of a server that is not the administrator's."""
    return ServerRefused(
        "the audit trail was not off-loaded",
        cause=f"the log server was refused: {cause}",
        remedy="look at the server's certificate and at [audit] in the settings; records wait meanwhile",
    )
