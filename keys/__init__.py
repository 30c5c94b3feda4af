# SPDX-License-Identifier: Apache-2.0
"""Who may sign: roles, key files, signers and the trust anchor. Holds no private key and decides about no release."""
