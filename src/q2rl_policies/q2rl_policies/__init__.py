# SPDX-License-Identifier: Apache-2.0
"""Proposing and deciding."""
