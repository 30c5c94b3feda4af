# SPDX-License-Identifier: Apache-2.0
"""How tables came to be what they are, step by step; each step is one module in ``versions``. Runs nothing itself."""
