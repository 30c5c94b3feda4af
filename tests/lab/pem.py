# SPDX-License-Identifier: Apache-2.0
"""Certificates in PEM, also malformed ones, which no library writes."""

from __future__ import annotations

import base64
import textwrap


def pem(certificate: bytes) -> str:
    """One certificate."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(certificate).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
