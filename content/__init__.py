# SPDX-License-Identifier: Apache-2.0
"""What bytes are and where they lie: fs-verity digests, the content store, durable files. Decides no trust."""
