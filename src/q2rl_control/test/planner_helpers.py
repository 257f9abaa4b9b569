# SPDX-License-Identifier: Apache-2.0
"""The arm of the pipe task, requests in its cell, and a stand-in for moveit_py."""
