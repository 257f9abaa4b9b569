# SPDX-License-Identifier: Apache-2.0
"""Starting it all."""
