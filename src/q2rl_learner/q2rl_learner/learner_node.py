# SPDX-License-Identifier: Apache-2.0
"""Node `learner`: transitions to disk and acknowledged at once, learning in a thread beside, weights out."""

from __future__ import annotations

from pathlib import Path
import sys
import time

from q2rl_learner.config import LearnerConfig, load_preset
from q2rl_learner.demonstrations import load_demonstrations
from q2rl_learner.learner_state import load_state
from q2rl_learner.online_learner import OnlineLearner
from q2rl_learner.replay_inbox import HEARTBEAT_S, ReplayInbox
from q2rl_learner.timeline import Timeline
from q2rl_learner.training_loop import LearnerView, TrainingLoop
from q2rl_learner.weights_numbers import WeightsNumbers
from q2rl_msgs.msg import LearnerStatus, RunState, WeightsChunk
from q2rl_policies.bc import DensityNet
from q2rl_policies.chunks import split
from q2rl_policies.policy_file import load_density
from q2rl_policies.torch_runtime import find_device, prepare_torch
from q2rl_ros.conversions import to_enum, weights_chunk_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_ros.qos import weights_chunk_size
from q2rl_ros.spin import spin
from q2rl_ros.stamps import stamp_from_msg
from q2rl_task import InputError, Phase, episode_seed

STATUS_PERIOD_S = 0.05
CLOSE_TIMEOUT_S = 5.0
"""How long deactivating waits for the training thread, and acknowledgements with it."""
CHUNK_PAUSE_S = 0.001
SWITCH_INTERVAL_S = 0.0005
"""How long the training thread may keep the interpreter while a message waits (Python's default is 5 ms)."""


class LearnerNode(Q2rlNode):
    """Subscribe `transition` and `run_state`; publish `transition_ack`, `learner_status`, `actor_weights`,
    `critic_weights`. What is in the run's folder (log, state) is taken up again after any end.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('learner', **kwargs)
        self.declare(
            'preset', 'laptop-long', 'Settings: name of a shipped preset, or path of a preset YAML.'
        )
        self.declare('demos', '', 'Demonstrations (HDF5) to mix in; empty: none.')
        self.declare(
            'bc_checkpoint',
            '',
            'BC checkpoint that scores demonstrations; empty: bc.safetensors of the run.',
        )
        self.declare(
            'rollouts',
            0,
            'BC rollouts of the estimating phase; 0: as the preset says.',
            low=0,
            high=100_000,
        )
        self.declare('seed', 0, 'Seed of the run.', low=0, high=2**62)
        self.declare(
            'publish_every',
            0,
            'Critic updates between two weights; 0: as the preset says.',
            low=0,
            high=10**9,
        )
        self.declare(
            'device',
            'cpu',
            'Where gradient steps are made: cpu, cuda, or one GPU of several, cuda:1. Policies act on the CPU.',
        )
        self._loop: TrainingLoop | None = None
        self._inbox: ReplayInbox | None = None
        self._writer = None

    def configure(self) -> None:
        """Load all, replay the log, restore the state; make the topics."""
        prepare_torch()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        if not self.value('run_dir'):
            raise InputError(
                'parameter `run_dir` of learner', 'is empty', 'set the directory of the run'
            )
        run_dir = Path(self.value('run_dir'))
        self._state_path = run_dir / 'learner' / 'state.safetensors'
        self._numbers = WeightsNumbers(run_dir / 'learner' / 'version.json')
        self._tensorboard = run_dir / 'tensorboard'
        learner = self._make_learner(run_dir)
        self._inbox = ReplayInbox(self, run_dir / 'transitions.db')
        self._shown: LearnerView | None = None
        self._shown_at = 0.0
        self._timeline = Timeline(run_dir / 'timeline.jsonl', time.monotonic())
        self._status = self.publisher(LearnerStatus, 'learner_status', self.qos.latched)
        self._weights = {
            kind: self.publisher(WeightsChunk, f'{kind}_weights', self.qos.weights)
            for kind in ('actor', 'critic')
        }
        self._loop = TrainingLoop(
            learner, self.lockstep, self._state_path, self._send_weights, self._write_scalars
        )
        self._loop.offer(self._inbox.stored)
        self._inbox.open(self._loop.offer)
        self.subscribe(
            RunState, 'run_state', self._on_run_state, self.qos.latched, while_inactive=True
        )
        self.wall_timer(STATUS_PERIOD_S, self._publish_status)

    def _make_learner(self, run_dir: Path) -> OnlineLearner:
        config = self._config()
        demos = load_demonstrations(self.value('demos'), self.task) if self.value('demos') else []
        bc = self._load_bc(run_dir)
        learner = OnlineLearner(
            config,
            self.task,
            episode_seed(self.value('seed'), 'learner', 0),
            demos,
            bc,
            run_dir / 'learner' / 'kept',
            find_device(self.value('device')),
        )
        if self._state_path.is_file():
            load_state(self._state_path, learner)
            text = f'resumed after {learner.trained_steps} online steps, {learner.gradient_steps} gradient steps'
            self.get_logger().info(text)
        learner.weights_version = max(learner.weights_version, self._numbers.version)
        return learner

    def _config(self) -> LearnerConfig:
        config = load_preset(self.value('preset'))
        changed = {
            name: self.value(name) for name in ('rollouts', 'publish_every') if self.value(name)
        }
        return LearnerConfig.model_validate({**config.model_dump(), **changed})

    def _load_bc(self, run_dir: Path) -> DensityNet | None:
        path = Path(self.value('bc_checkpoint') or run_dir / 'bc.safetensors')
        if not self.value('bc_checkpoint') and not path.is_file():
            return None
        return load_density(path, self.task)

    def activate(self) -> None:
        """Start learning."""
        self._loop.start()

    def deactivate(self) -> None:
        """Write what has arrived, stop learning and keep the state.

        :raises InputError: the training thread is still at a step; it goes on, and the node stays active
        """
        self._inbox.commit()
        if not self._loop.close(CLOSE_TIMEOUT_S):
            self._loop.start()
            raise InputError(
                'learner', f'is at a step of more than {CLOSE_TIMEOUT_S:g} s', 'deactivate it again'
            )
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def release(self) -> None:
        """Close the log."""
        if self._loop is not None:
            # Shut down or failed while it was at a long step: to go no further.
            self._loop.close(0.0)
        if self._inbox is not None:
            self._inbox.close()
        self._loop = self._inbox = None

    def diagnose(self) -> dict[str, object]:
        """Where learning stands."""
        view = self._loop.view
        return {
            'state': view.state.name,
            'stored': self._inbox.count,
            'online_steps': view.online_steps,
            'gradient_steps': view.gradient_steps,
            'weights_version': view.weights_version,
        }

    def _on_run_state(self, msg: RunState) -> None:
        if self._loop is None:  # one that came while the node was closed
            return
        self._loop.set_phase(to_enum(Phase, msg.phase, 'phase'))
        self._loop.roll_back(msg.rollbacks, msg.rollback_version)

    def _publish_status(self) -> None:
        view, now = self._loop.view, time.monotonic()
        if view is self._shown and now - self._shown_at < HEARTBEAT_S:
            return
        self._shown, self._shown_at = view, now
        numbers = {**vars(view), 'state': int(view.state), 'ingested': self._inbox.count}
        detail = numbers.pop('detail')
        self._timeline.tell(now, numbers)
        msg = LearnerStatus(detail=detail, **numbers)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(msg)

    def _send_weights(self, version: int, parent: int, files: dict[str, bytes]) -> None:
        """Publish a version; called in the training thread, which may pause between chunks as the executor may not."""
        self._numbers.sent(version)
        learner, contract = self._numbers.learner, self.task.contract_hash
        stamp = stamp_from_msg(self.get_clock().now().to_msg())
        for kind, data in files.items():
            size = weights_chunk_size(len(data))
            for chunk in split(data, kind, learner, version, parent, contract, size):
                self._weights[kind].publish(weights_chunk_to_msg(**vars(chunk), stamp=stamp))
                time.sleep(CHUNK_PAUSE_S)

    def _write_scalars(self, gradient_steps: int, scalars: dict[str, float]) -> None:
        """Write scalars for TensorBoard; called in the training thread."""
        if self._writer is None:
            # Imported here: it takes a second that configuring should not.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._tensorboard))
        for name, value in scalars.items():
            self._writer.add_scalar(f'learner/{name}', value, gradient_steps)


def main(args=None) -> int:
    """Run the node."""
    return spin(LearnerNode, args)


if __name__ == '__main__':
    sys.exit(main())
