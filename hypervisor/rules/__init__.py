# SPDX-License-Identifier: Apache-2.0
"""The hardening rules for domain XML, as data; ``hypervisor.lint`` applies them."""
