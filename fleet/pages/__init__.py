# SPDX-License-Identifier: Apache-2.0
"""The pages of a fleet's service, for people: drawn here, usable without JavaScript."""
