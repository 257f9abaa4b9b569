# SPDX-License-Identifier: Apache-2.0
"""How torch is set up in every process of q2rl: once, before the first network; and where it computes."""

from __future__ import annotations

import ctypes

import torch

from q2rl_task import InputError
from q2rl_task.errors import one_line

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


def find_device(name: str) -> torch.device:
    """Return the device to learn on: 'cpu', 'cuda', or one of several, 'cuda:1'.

    :raises InputError: no such device, or none that this torch can use
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error, 200)
        raise InputError(
            f'device {name}',
            f'is none that torch {torch.__version__} can use here ({reason})',
            'say cpu; or install a PyTorch built for your GPU, with its driver, and say cuda',
        ) from None
    if device.type not in ('cpu', 'cuda'):
        raise InputError(f'device {name}', 'is not tried with q2rl', 'say cpu or cuda')
    return device
