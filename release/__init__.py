# SPDX-License-Identifier: Apache-2.0
"""How a release of vmgate itself is made: built twice and compared, described, and signed.

Not part of the wheel, and not about the releases that vmgate publishes (``publisher`` is). ``python -m release`` makes
one; ``verify-release`` checks one, without any of this.
"""
