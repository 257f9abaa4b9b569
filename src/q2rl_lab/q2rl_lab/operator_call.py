# SPDX-License-Identifier: Apache-2.0
"""One thing asked of a run that is at work, from another terminal: where its nodes are, and what they answered."""

from __future__ import annotations

from dataclasses import dataclass
import os
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from q2rl_bringup.operator_services import PATIENCE_S, Wish
from q2rl_lab.run_folder import RunFolder
from q2rl_task import InputError

LOOK_S = 0.05


@dataclass(frozen=True)
class Answer:
    """What became of it. heard: whether anybody answered; fulfilled: whether it was done; text: for people."""

    heard: bool
    fulfilled: bool
    text: str


def running_domain(folder: RunFolder) -> int | None:
    """Return the ROS_DOMAIN_ID in which `q2rl up` runs the nodes of a run now; None where it does not.

    What a killed one left behind does not count: the domain may be another run's by now.
    """
    try:
        number = int(folder.domain.read_text(encoding='utf-8'))
        folder.lock().close()
    except InputError:
        return number  # somebody has the folder, or it is another person's: who may not write may still stop
    except (OSError, ValueError):
        return None
    return None


def ask(wish: Wish, domain: int | None, namespace: str = '', patience_s: float = 10.0) -> Answer:
    """Ask for `wish` in a DDS domain, and wait for the answer for so long at most.

    A stop that is not answered is asked for again all the while, everything else once.

    :param domain: None: that of the environment
    """
    context = Context()
    options = {} if domain is None else {'domain_id': domain}
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO, **options)
    executor = SingleThreadedExecutor(context=context)
    try:
        node = rclpy.create_node(
            f'q2rl_stop_{os.getpid()}',
            namespace=namespace,
            context=context,
            use_global_arguments=False,
        )
        executor.add_node(node)
        return _answer(node, executor, wish, time.monotonic() + patience_s)
    finally:
        executor.shutdown()
        rclpy.try_shutdown(context=context)


def _answer(node, executor, wish: Wish, end: float) -> Answer:
    call = wish.value
    client = node.create_client(call.kind, call.service)
    futures, asked = [], float('-inf')
    while (now := time.monotonic()) < end:
        again = wish is Wish.EMERGENCY_STOP and now - asked > PATIENCE_S
        if client.service_is_ready() and (again or not futures):
            futures.append(client.call_async(call.request()))
            asked = now
        executor.spin_once(timeout_sec=LOOK_S)
        for future in futures:
            if future.done():
                answer = future.result()
                said = answer.message
                if not answer.success:
                    refusal = said if said.startswith('refused') else f'refused: {said}'
                    return Answer(True, False, refusal if said else 'refused')
                return Answer(True, True, f'{call.done} ({said})' if said else call.done)
    what = 'did not answer' if futures else 'is not there'
    return Answer(False, False, f'NO ANSWER: {node.resolve_service_name(call.service)} {what}')
