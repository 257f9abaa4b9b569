# SPDX-License-Identifier: Apache-2.0
"""A stand-in robot: MuJoCo scenes, a simulated arm, and scripted ways to use it."""
