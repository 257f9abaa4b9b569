# SPDX-License-Identifier: Apache-2.0
"""The scenes that ship with the simulation, one module each; a task names its scene."""
