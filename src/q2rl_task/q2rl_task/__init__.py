# SPDX-License-Identifier: Apache-2.0
"""The contract of a task: what its observations, actions, rewards, limits and episode ends mean.

Modules by subject; what other packages need most can be imported from here.

- the task: `spec` (its YAML), `contract` (what of it learning depends on), `observed_blocks`
- the tick: `measurement`, `observation`, `action`, `records` (what flows round it)
- episodes: `episode` (who acts, how it ends, what it is worth), `reset` (where it starts)
- poses: `pose`, `rotations`
- files: `settings_file`, `atomic_file`, `demonstration_file`, `file_hash`
- what a user can mend: `errors`
"""

from q2rl_task.action import advance_command, advance_gripper, clamp_lead
from q2rl_task.contract import Contract
from q2rl_task.episode import (
    EndReason,
    LearnerState,
    Mode,
    Phase,
    Source,
    StepOutcome,
    episode_name,
    episode_seed,
    episode_stream,
    judge_step,
)
from q2rl_task.errors import InputError
from q2rl_task.measurement import Measurement
from q2rl_task.observation import ObservationBuilder
from q2rl_task.pose import Pose
from q2rl_task.records import (
    Decision,
    ExecutedStep,
    ObservationRecord,
    Proposal,
    Reason,
    Transition,
    pair_steps,
)
from q2rl_task.reset import draw_start
from q2rl_task.spec import TaskSpec, load_task

__all__ = [
    'Contract',
    'Decision',
    'EndReason',
    'ExecutedStep',
    'InputError',
    'LearnerState',
    'Measurement',
    'Mode',
    'ObservationBuilder',
    'ObservationRecord',
    'Phase',
    'Pose',
    'Proposal',
    'Reason',
    'Source',
    'StepOutcome',
    'TaskSpec',
    'Transition',
    'advance_command',
    'advance_gripper',
    'clamp_lead',
    'draw_start',
    'episode_name',
    'episode_seed',
    'episode_stream',
    'judge_step',
    'load_task',
    'pair_steps',
]
