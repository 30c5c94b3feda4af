# SPDX-License-Identifier: Apache-2.0
"""Every parser of what others wrote, given what nobody would write."""
