# SPDX-License-Identifier: Apache-2.0
"""One module for each step, named by its number. Once released, a step is never changed."""
