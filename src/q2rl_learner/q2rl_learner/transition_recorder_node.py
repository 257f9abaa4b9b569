# SPDX-License-Identifier: Apache-2.0
"""Node `transition_recorder`: keeps the transitions of a run that has no learner. A thin shell round the inbox."""

from __future__ import annotations

from pathlib import Path
import sys

from q2rl_learner.replay_inbox import ReplayInbox
from q2rl_ros.node import Q2rlNode
from q2rl_ros.spin import spin
from q2rl_task import InputError


class TransitionRecorder(Q2rlNode):
    """Subscribe `transition`, publish `transition_ack`, in the learner's place; `q2rl why` reads what is kept.

    A transition is in the run's log before it is acknowledged.
    """

    def __init__(self, name: str = 'transition_recorder', **kwargs) -> None:
        super().__init__(name, **kwargs)
        self._inbox: ReplayInbox | None = None

    def configure(self) -> None:
        """Open the log in the run's folder; make the topics.

        :raises InputError: no folder, or its log is none or of another task
        """
        self._open_log()
        self._inbox.open(lambda due: None)

    def _open_log(self) -> Path:
        """Open the log; return the folder of the run."""
        if not self.value('run_dir'):
            where = f'parameter `run_dir` of {self.get_name()}'
            raise InputError(where, 'is empty', 'set the directory of the run')
        run_dir = Path(self.value('run_dir'))
        self._inbox = ReplayInbox(self, run_dir / 'transitions.db')
        return run_dir

    def deactivate(self) -> None:
        """Write what has arrived."""
        self._inbox.commit()

    def release(self) -> None:
        """Close the log."""
        if self._inbox is not None:
            self._inbox.close()
        self._inbox = None

    def diagnose(self) -> dict[str, object]:
        """Show how many there are."""
        return {'stored': self._inbox.count}


def main(args=None) -> int:
    """Run the node."""
    return spin(TransitionRecorder, args)


if __name__ == '__main__':
    sys.exit(main())
