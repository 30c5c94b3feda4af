# SPDX-License-Identifier: Apache-2.0
"""Signed delivery: the TUF repository writer, the update client and bundles. Knows no TPM and no libvirt."""
