# SPDX-License-Identifier: Apache-2.0
"""VMs: definition to hardened domain XML, the linter, the comparison, and libvirt behind one adapter.

It decides nothing about trust and touches no TPM of the host.
"""
