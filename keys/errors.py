# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with keys and the trust anchor. No message carries a secret. This module decides nothing."""

from __future__ import annotations

from documents.errors import Exit, VmgateError


class KeysError(VmgateError):
    """The root of this package's errors."""

    code = "KY000"
    explanation = "A key or the trust anchor could not be used."


class KeyFileMalformed(KeysError):
    """A key file does not hold what it should."""

    code = "KY001"
    exit = Exit.REFUSED
    explanation = (
        "A key file is not an encrypted PKCS#8 PEM file with a P-256 or P-384 key, nor a key that a TPM made for "
        "vmgate, or it is not of the kind asked for."
    )


class PassphraseWrong(KeysError):
    """A key file does not open."""

    code = "KY002"
    exit = Exit.NOT_PERMITTED
    explanation = "A key file did not open: the passphrase is wrong, or the file is damaged. Nothing was signed."


class KeyUnencrypted(KeysError):
    """A private key lies in the clear."""

    code = "KY003"
    exit = Exit.POLICY
    explanation = "vmgate uses no private key that lies unencrypted on a disk, and writes none without a passphrase."


class AnchorRefused(KeysError):
    """The trust anchor is not a root that vouches for itself."""

    code = "KY004"
    exit = Exit.REFUSED
    explanation = (
        "The trust anchor is not TUF root metadata that its own keys have signed. All trust in a repository starts "
        "there, so nothing else was looked at. Get it again, on a way that you trust."
    )


class SigningUnsupported(KeysError):
    """The libraries cannot make or check signatures here."""

    code = "KY005"
    exit = Exit.NOT_READY
    explanation = (
        "The Python environment has no working `cryptography`. Without it every signature would look missing. "
        "Install vmgate with its dependencies again."
    )


class UnknownSigner(KeysError):
    """A signer's address is of no known kind."""

    code = "KY006"
    exit = Exit.USAGE
    explanation = (
        "A signer is named by an address: `file:/path/to/key.pem`, `pkcs11:token=LABEL;object=LABEL` for a key on a "
        "token (RFC 7512), or `tpm:/path/to/key.tpm` for one in a TPM. This one is of no known kind, or has attributes "
        "that vmgate does not know."
    )


class KeyExists(KeysError):
    """A new key would take the place of an old one."""

    code = "KY007"
    explanation = "vmgate never writes a key over another one. Choose another folder, or remove the old key yourself."


class TokenUnusable(KeysError):
    """A key on a PKCS#11 token cannot be used."""

    code = "KY008"
    exit = Exit.NOT_READY
    explanation = (
        "A key on a hardware token could not be used: the token's library was not named (--pkcs11-module or "
        "`module-path` in the address), python-pkcs11 is not installed (`pip install vmgate[hsm]`), the token is not "
        "there, or the token has no such key, or several. Nothing was signed."
    )


class PinWrong(KeysError):
    """A token, or a TPM, refuses a PIN."""

    code = "KY009"
    exit = Exit.NOT_PERMITTED
    explanation = (
        "A hardware token or a TPM did not accept the PIN. Most lock after a few wrong ones, so check it before you "
        "try again. A TPM opens again after a time that its owner may set. Nothing was signed."
    )


class SignersMalformed(KeysError):
    """The list of signers beside the key files has a mistake."""

    code = "KY010"
    exit = Exit.USAGE
    explanation = (
        "The file signers.toml in the folder of keys says where keys are that do not lie there. It has one table, "
        '`[signers]`, with lines such as `root-1 = "pkcs11:token=vendor;object=root-1"`.'
    )


class PublicKeyMalformed(KeysError):
    """A public key is not of the kind that its role needs."""

    code = "KY011"
    exit = Exit.REFUSED
    explanation = "A file does not hold a public key in PEM (`BEGIN PUBLIC KEY`) on the curve that its role needs."


class NoSuchKey(KeysError):
    """A key is named that is not in the folder."""

    code = "KY012"
    exit = Exit.NOT_FOUND
    explanation = "The folder of keys has no file of that key, and its signers.toml does not say where it is."


class TpmUnusable(KeysError):
    """A key in a TPM cannot be used."""

    code = "KY013"
    exit = Exit.NOT_READY
    explanation = (
        "A key in a TPM could not be used: the TPM was not named (--tcti, VMGATE_TCTI, or `tcti` in the address), it "
        "does not answer, or it refused. Nothing was signed."
    )


class KeyOfAnotherTpm(KeysError):
    """A TPM does not know a key."""

    code = "KY014"
    exit = Exit.REFUSED
    explanation = (
        "A key in a TPM belongs to the TPM that made it, as long as that is not cleared. The file of the key is of no "
        "use with another one. Nothing was signed. If its TPM is gone, give the role another key."
    )


class CurveRefused(KeysError):
    """A role's keys cannot be in a TPM."""

    code = "KY015"
    exit = Exit.POLICY
    explanation = (
        "vmgate makes and uses keys in a TPM on P-256 only, since many TPMs refuse P-384. Root, targets and the "
        "channels' roles sign with P-384: their keys are encrypted files or lie on a token."
    )


class CopyRefused(KeysError):
    """A VM key's recovery copy does not open with this recovery key."""

    code = "KY016"
    exit = Exit.REFUSED
    explanation = (
        "The recovery copy of a VM's key (key-recovery.json in the VM's folder) did not open: it is for another "
        "recovery key, of another VM, or was changed. Nothing was written. Put the file back from a backup, or take "
        "the recovery key that it names."
    )


class RecoveryKeyOther(KeysError):
    """A recovery key is not the one that a host has."""

    code = "KY017"
    exit = Exit.REFUSED
    explanation = (
        "The recovery key in the file is not the one whose public half this host has: it is of another site, or was "
        "replaced since. `vmgate recovery show` gives the id that this host asks for. Nothing was changed."
    )


class RecoveryKeyUnknown(KeysError):
    """A host does not know the recovery key that lies on its disk."""

    code = "KY018"
    exit = Exit.REFUSED
    explanation = (
        "The public half of the recovery key on the disk (tpm/recovery-key.json) was not installed under this host's "
        "present key, and no VM key is wrapped for it: somebody may have put it there to read VM keys. After the TPM "
        "was cleared it is expected, and `vmgate recovery use FILE` or a new `vmgate recovery create` ends it."
    )


class RequestUnproven(KeysError):
    """A request to a fleet is not shown to be the host's that it names."""

    code = "KY030"
    exit = Exit.REFUSED
    explanation = (
        "A host proves each request to its fleet with a key of its TPM (HTTP message signatures, RFC 9421), over "
        "method, path, query and body, at a time that differs from the fleet's by 300 seconds at most, and over a "
        "nonce that the fleet gave it. Something of that does not hold, so nothing was done."
    )
