# SPDX-License-Identifier: Apache-2.0
"""One module a command group; each has ``command`` and stays thin."""
