# SPDX-License-Identifier: Apache-2.0
"""Reading of untrusted binary logs, field by field. What the fields mean is the business of the modules above."""
