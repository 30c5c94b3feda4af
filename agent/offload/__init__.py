# SPDX-License-Identifier: Apache-2.0
"""The audit trail's way to a log server: messages, the server's certificate, the channel, and the worker."""
