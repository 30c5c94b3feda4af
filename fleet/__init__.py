# SPDX-License-Identifier: Apache-2.0
"""Many hosts: appraisal of their evidence. Loads neither libvirt nor a TPM library and never connects to a host."""
