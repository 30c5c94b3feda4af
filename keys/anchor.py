# SPDX-License-Identifier: Apache-2.0
"""The trust anchor: the TUF root metadata that a host was given, on a trusted way, before anything else.

It must vouch for itself (TUF specification 1.0.34, section 5.3). That proves only that it is whole: whether it is the
right one is decided by how it came here. Expiry is not looked at; the update client follows the chain to a fresh root.
"""

from __future__ import annotations

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from content.fsverity import digest_bytes
from keys.errors import AnchorRefused
from keys.signers import require_signing

LIMIT = 512_000
"""The most bytes of root metadata that are parsed."""


class TrustAnchor:
    """A root that its own keys have signed.

    Args:
        untrusted_root: the bytes of a ``N.root.json``.

    Attributes:
        root: the same bytes.
        identity: their fs-verity digest; what a platform release calls ``repository``.
        version: of the root.

    Raises:
        AnchorRefused: too large, malformed, or not signed by its own threshold.
        SigningUnsupported: signatures cannot be checked here.
    """

    __slots__ = ("identity", "root", "version")

    def __init__(self, untrusted_root: bytes) -> None:
        require_signing()
        if len(untrusted_root) > LIMIT:
            raise _refused(f"it has {len(untrusted_root)} bytes and the bound is {LIMIT}")
        try:
            metadata = Metadata[Root].from_bytes(untrusted_root)
            if not isinstance(metadata.signed, Root):
                raise _refused("it is metadata of another role")
            metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError) as error:
            raise _refused(str(error) or type(error).__name__) from error
        self.root = untrusted_root
        self.identity = digest_bytes(untrusted_root)
        self.version: int = metadata.signed.version


def _refused(why: str) -> AnchorRefused:
    return AnchorRefused("the trust anchor was refused", cause=why[:300], remedy="get the right root metadata again")
