# SPDX-License-Identifier: Apache-2.0
"""From a weights topic to live networks: chunks are put together in the tick's thread, files are checked in another."""

from __future__ import annotations

from collections import deque
from pathlib import Path
import sys
import threading

import numpy as np

from q2rl_msgs.msg import WeightsChunk
from q2rl_policies.chunks import Chunk, ChunkAssembler
from q2rl_policies.live_networks import LiveActor, LiveCritic
from q2rl_policies.weights import LiveWeights
from q2rl_ros.conversions import weights_chunk_data
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError

RECORDED = 16
SWITCH_INTERVAL_S = 0.0005
"""How long the checking thread may keep the interpreter while a tick waits for it (Python's default is 5 ms)."""
CLOSE_TIMEOUT_S = 10.0
TELL_PERIOD_S = 0.25


def declare_weights(node: Q2rlNode) -> None:
    """Declare what a node with a `WeightsInbox` may be given in place of a learner."""
    node.declare('weights', '', 'Networks file to act by, for good; empty: what the learner sends.')


class WeightsInbox:
    """Receive the weights of one kind for a node, from when it makes this in `configure` until it is cleaned up.

    Only the newest file waits to be checked. A file that is refused is counted and logged, and the live networks stay.
    Where the parameter `weights` names a file it is that, and nothing is received.

    :param networks: `LiveActor` or `LiveCritic`; the topic is `actor_weights` or `critic_weights`
    :raises InputError: the file that was named is missing, damaged, of another task, or fails its trial
    """

    def __init__(self, node: Q2rlNode, networks: type[LiveActor] | type[LiveCritic]) -> None:
        task = node.task
        self._node = node
        self.topic = f'{networks.kind}_weights'
        self.live: LiveWeights = LiveWeights(networks, task.contract_hash, task.observation_size)
        self._assembler = ChunkAssembler(networks.kind, task.contract_hash)
        self._recorded: deque[np.ndarray] = deque(maxlen=RECORDED)
        self._wake = threading.Condition()
        self._waiting: bytes | None = None
        self._refused: deque[str] = deque()
        self._closed = False
        given = node.value('weights')
        if given:
            self.live.stage(_content(Path(given)), given)
            return
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread = threading.Thread(target=self._check, name=self.topic, daemon=True)
        self._thread.start()
        node.subscribe(
            WeightsChunk, self.topic, self._on_chunk, node.qos.weights, while_inactive=True
        )
        node.wall_timer(TELL_PERIOD_S, self._tell)
        node.when_released(self.close)

    @property
    def version(self) -> int:
        """Version of the live networks, 0 without any."""
        return 0 if self.live.current is None else self.live.current.version

    def tick(self, observation: np.ndarray) -> bool:
        """Let what has arrived go live, before a new observation (O,) is acted on; keep that for the canary.

        :return: whether anything went live
        """
        promoted = self.live.promote()
        self._recorded.append(observation)
        return promoted

    def close(self) -> None:
        """End the checking thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _on_chunk(self, msg: WeightsChunk) -> None:
        before = self._assembler.learner
        data = self._assembler.add(
            Chunk(
                msg.kind,
                msg.learner,
                msg.version,
                msg.parent,
                msg.contract,
                msg.sha256,
                msg.index,
                msg.count,
                weights_chunk_data(msg),
            )
        )
        if data is not None:
            if before not in ('', msg.learner):
                text = f'weights of another learner ({msg.learner}, before: {before}): from version {msg.version} on'
                self._node.warn('learner', f'{self.topic}: {text}')
            with self._wake:
                self._waiting = data
                self._wake.notify()

    def _check(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._waiting is not None)
                if self._closed:
                    return
                data, self._waiting = self._waiting, None
            recorded = list(self._recorded)
            try:
                self.live.stage(
                    data, self.topic, observations=np.stack(recorded) if recorded else None
                )
            except InputError as error:
                self._refused.append(str(error))  # the node is its executor's alone
            except Exception as error:  # the next file may be sound, and nobody else would check it
                self._refused.append(f'{self.topic}: cannot be checked: {error!r}')

    def _tell(self) -> None:
        while self._refused:
            self._node.drop('weights_refused', self._refused.popleft())

    def diagnose(self) -> dict[str, object]:
        """The live version and what became of chunks and files."""
        return {
            f'{self.topic} version': self.version,
            **{
                f'{self.topic} chunks {name}': n for name, n in list(self._assembler.counts.items())
            },
            **{f'{self.topic} files {name}': n for name, n in list(self.live.counts.items())},
        }


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            'parameter `weights`',
            f'{path} cannot be read ({error.strerror})',
            'name a file that ./q2rl export wrote, or leave it empty to hear the learner',
        ) from None
