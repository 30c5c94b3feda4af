# SPDX-License-Identifier: Apache-2.0
"""The TPM behind one adapter, the logs, reference values and predicted policies, and the one appraisal."""
