# SPDX-License-Identifier: Apache-2.0
"""What runs in other people's Python environments: scripts that import nothing of q2rl."""
