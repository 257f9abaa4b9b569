# SPDX-License-Identifier: Apache-2.0
"""The glue every q2rl node shares."""
