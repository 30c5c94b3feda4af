# SPDX-License-Identifier: Apache-2.0
"""The host's TPM: the only package that loads a TPM library.

Each public method takes the lock for all of its commands. What is loaded is flushed again, whatever happens.

This package decides nothing: it does not judge logs, states or releases, and it keeps no secret.
"""

from measure.tpm.counter import Counter
from measure.tpm.identity import Identity
from measure.tpm.objects import Objects
from measure.tpm.registers import Registers


class Tpm(Registers, Counter, Identity, Objects):
    """One connection to one TPM. Use ``open``; close it, or use it as a context manager."""


__all__ = ["Tpm"]
