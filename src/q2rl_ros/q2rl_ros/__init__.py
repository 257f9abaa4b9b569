# SPDX-License-Identifier: Apache-2.0
"""The glue every q2rl node shares: message conversion, quality of service, lifecycle base, spin loop.

Import from the modules: `conversions`, `sensors`, `stamps`, `qos`, `node`, `spin`, `errors`.
"""
