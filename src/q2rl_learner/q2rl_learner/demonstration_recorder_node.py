# SPDX-License-Identifier: Apache-2.0
"""Node `demonstration_recorder`: keeps the episodes in which a person succeeded. A thin shell round the keeper."""

from __future__ import annotations

import sys

from q2rl_learner.demonstration_keeper import DemonstrationKeeper, Verdict
from q2rl_learner.transition_recorder_node import TransitionRecorder
from q2rl_msgs.msg import RunState
from q2rl_ros.spin import spin
from q2rl_task import Transition

FILE = 'demonstrations.hdf5'


class DemonstrationRecorder(TransitionRecorder):
    """Subscribe `transition` and `run_state`; publish `transition_ack`, in the learner's place.

    A transition is in the run's log before it is acknowledged, and a demonstration in the run's file before its last
    transition is; so no end of this process, however sudden, loses one. With the run the node ends, by exit code 0.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('demonstration_recorder', **kwargs)
        self.declare(
            'demonstrations', 40, 'How many are wanted; only to be shown.', low=1, high=10**6
        )

    def configure(self) -> None:
        """Take up what the run's folder holds; make the topics.

        :raises InputError: no folder, or one of another kind of run
        """
        run_dir = self._open_log()
        self._keeper = DemonstrationKeeper(run_dir / FILE, self.task, self._inbox.stored)
        self._last = ''
        self._inbox.open(self._take)
        self.subscribe(
            RunState, 'run_state', self._on_run_state, self.qos.latched, while_inactive=True
        )
        if self._keeper.demonstrations:
            self.get_logger().info(f'{self._so_far} already in {self._keeper.path}')

    def diagnose(self) -> dict[str, object]:
        """Show how many there are."""
        return {
            'demonstrations': len(self._keeper.demonstrations),
            'wanted': self.value('demonstrations'),
            'steps': self._keeper.steps,
            'episodes that are none': self._keeper.failed,
            'last episode': self._last,
        }

    @property
    def _so_far(self) -> str:
        return (
            f'{len(self._keeper.demonstrations)} of {self.value("demonstrations")} demonstrations'
        )

    def _take(self, due: list[Transition]) -> None:
        for transition in due:
            verdict = self._keeper.add(transition)
            if verdict is not None:
                self._tell(verdict)

    def _tell(self, verdict: Verdict) -> None:
        self._last = f'{verdict.episode} {verdict.text}'
        self.get_logger().info(f'{self._last} ({self._so_far})')

    def _on_run_state(self, msg: RunState) -> None:
        """End with the run, once the episode manager knows that everything is here."""
        if not self.active or msg.robot != self.robot or msg.phase != RunState.FINISHED:
            return
        if min(msg.acknowledged, self._inbox.acknowledged(self.robot)) < msg.sequence:
            return
        keeper = self._keeper
        clone = keeper.path.with_name('bc.safetensors')
        self.get_logger().info(
            f'{len(keeper.demonstrations)} demonstrations, {keeper.steps} steps: {keeper.path}\n'
            f'next: ./q2rl train-bc {keeper.path} --task {self.value("task")} -n 0 -o {clone}\n'
            'then the first guarded rollout: the same start in another run_dir, with policy_mode:=bc eval_episodes:=3 '
            f'bc_checkpoint:={clone} demos:={keeper.path}'
        )
        self.finish()


def main(args=None) -> int:
    """Run the node."""
    return spin(DemonstrationRecorder, args)


if __name__ == '__main__':
    sys.exit(main())
