# SPDX-License-Identifier: Apache-2.0
"""The main function of every node process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import ctypes
import gc
import os
import signal
import sys
import threading

import rclpy
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError
from q2rl_task.errors import one_line

try:
    from rclpy.experimental import EventsExecutor
except ImportError:
    EventsExecutor = None

PARENT_VARIABLE = 'Q2RL_PARENT_PID'
"""Set by a supervisor to its own process id: the node then ends when the supervisor does, however that dies."""
WAKE_S = 0.25
ORPHAN_GRACE_S = 5.0
PR_SET_PDEATHSIG = 1


def spin(factory: Callable[[], Q2rlNode], args: Sequence[str] | None = None) -> int:
    """Run one node until SIGINT, SIGTERM or its own end; return the exit code of the process.

    0: asked to end, by one signal or several. 2: bad input, said in one line. 1: anything else, which a supervisor may
    answer with a restart.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _request(stop))
    if not _bind_to_parent():
        return 0
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = factory()
    except (
        InputError,
        InvalidParameterTypeException,
        InvalidParameterValueException,
        ParameterUninitializedException,
    ) as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = make_executor()
    executor.add_node(node)
    try:
        code = node.start()
        if code == 0:
            # What exists now lives as long as the process: the collector need not look at it between ticks.
            gc.collect()
            gc.freeze()
        while code == 0 and rclpy.ok() and not stop.is_set() and not node.finished:
            executor.spin_once(timeout_sec=WAKE_S)
        code = code or node.exit_code if node.finished else code
    except ExternalShutdownException:
        code = 0
    finally:
        if rclpy.ok():
            node.close()
            executor.remove_node(node)
            node.destroy_node()
        rclpy.try_shutdown()
        # The interpreter's own end takes a while and answers a second signal by dying of it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return code


def make_executor() -> Executor:
    """Return the fastest single-threaded executor there is; call its `spin_once` in a loop, never its `spin`."""
    return SingleThreadedExecutor() if EventsExecutor is None else EventsExecutor()


def _request(stop: threading.Event) -> None:
    stop.set()
    if PARENT_VARIABLE in os.environ and os.getppid() != int(os.environ[PARENT_VARIABLE]):
        # Nobody is left to insist, should the way down hang.
        insist = threading.Timer(ORPHAN_GRACE_S, os._exit, (1,))
        insist.daemon = True
        insist.start()


def _bind_to_parent() -> bool:
    """Ask the kernel for SIGTERM when the supervisor's spawning thread ends; tell whether it is still there."""
    if PARENT_VARIABLE not in os.environ:
        return True
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == int(os.environ[PARENT_VARIABLE])
