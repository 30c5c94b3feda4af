# SPDX-License-Identifier: Apache-2.0
"""The desk where releases are made, from artifacts alone: nothing here runs on a managed host or reads its state."""
