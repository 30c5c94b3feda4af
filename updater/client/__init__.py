# SPDX-License-Identifier: Apache-2.0
"""The host's side of updates: fetch, verify, stage, switch, go back. Never writes a repository."""
