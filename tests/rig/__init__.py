# SPDX-License-Identifier: Apache-2.0
"""The rig: a complete Debian 12 host with vmgate, built from packages and booted in a VM.

``image`` builds it, ``machine`` boots it, ``shell`` gives a person a console. See docs/guide/rig.md.
"""
