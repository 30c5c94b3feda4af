# SPDX-License-Identifier: Apache-2.0
"""Looks at how a host is set up and says what to do about it. It changes nothing and decides no trust."""
