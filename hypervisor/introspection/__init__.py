# SPDX-License-Identifier: Apache-2.0
"""Reading a guest from its memory, without an agent in it. All that is read here was written by the guest."""
