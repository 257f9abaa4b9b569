# SPDX-License-Identifier: Apache-2.0
"""The verbs of the `q2rl` command line, one file each; heavy imports happen inside the verbs."""
