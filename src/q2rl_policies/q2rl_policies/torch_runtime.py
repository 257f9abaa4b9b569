# SPDX-License-Identifier: Apache-2.0
"""How torch is set up in every process of q2rl: once, before the first network."""

from __future__ import annotations

import ctypes

import torch

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no more
KEPT_BYTES = 1 << 30


def prepare_torch() -> bool:
    """Give torch one thread, flush denormals, and make glibc keep freed memory; return whether the last was possible.

    By default glibc gives every activation of a batched ensemble (megabytes) back to the kernel and faults it in anew:
    a third of an update's time.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:  # not glibc
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    )
