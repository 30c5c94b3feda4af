# SPDX-License-Identifier: Apache-2.0
"""The publisher's side of updates: write, check, export and serve a TUF repository. Never runs on a managed host."""
