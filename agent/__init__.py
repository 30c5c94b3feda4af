# SPDX-License-Identifier: Apache-2.0
"""One host: the gate, the host's state and what it does with it. Opens no network port."""
