# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian package. Nothing of it is in the package, and nothing of vmgate imports it."""
