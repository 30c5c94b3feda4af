# SPDX-License-Identifier: Apache-2.0
"""What is said between processes: every format, canonical. Does no I/O and imports only the standard library."""
