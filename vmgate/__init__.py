# SPDX-License-Identifier: Apache-2.0
"""The command: arguments, configuration, wiring, exit codes. The only package with argv, environment and print."""
