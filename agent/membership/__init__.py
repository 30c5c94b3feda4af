# SPDX-License-Identifier: Apache-2.0
"""This host in its fleet: it joins, shows itself and brings its audit records. It asks, and is never connected to."""
