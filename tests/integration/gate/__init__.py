# SPDX-License-Identifier: Apache-2.0
"""Tests of the gate. A package only so that its modules share one host."""
