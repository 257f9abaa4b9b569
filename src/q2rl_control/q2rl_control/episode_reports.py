# SPDX-License-Identifier: Apache-2.0
"""Messages about episodes and the run, from the records of this package."""

from __future__ import annotations

from q2rl_control.episode_plan import EpisodePlan
from q2rl_control.episode_tally import EpisodeRecord
from q2rl_control.run_plan import LearnerReport, RunPlan
from q2rl_control.transition_assembler import TransitionAssembler
from q2rl_msgs.msg import EpisodeSummary, LearnerStatus, RunState
from q2rl_ros.conversions import to_enum
from q2rl_task import EndReason, LearnerState, Mode, Phase

NAMED = {'phase': Phase, 'mode': Mode, 'end_reason': EndReason}
NOT_ON_THE_WIRE = ('seed', 'lead_steps')
HELD_BACK = {Phase.FITTING: Phase.ESTIMATING, Phase.SETTLING: Phase.ONLINE}
"""Phases in which the learner works on all transitions of the one before, shown until it has them all."""


def summary_to_msg(record: EpisodeRecord) -> EpisodeSummary:
    """Return the message of a finished episode, but for its stamp."""
    values = {k: v for k, v in vars(record).items() if k not in NOT_ON_THE_WIRE}
    values |= {name: int(kind[values[name]]) for name, kind in NAMED.items()}
    return EpisodeSummary(**values)


def learner_report_from_msg(msg: LearnerStatus) -> LearnerReport:
    """Return what the plan needs of the learner's status.

    :raises MessageError: unknown state
    """
    return LearnerReport(
        state=to_enum(LearnerState, msg.state, 'state'),
        detail=msg.detail,
        weights_version=msg.weights_version,
        rollouts=msg.rollouts,
    )


def run_state_to_msg(
    robot: str,
    plan: RunPlan,
    assembler: TransitionAssembler,
    episode: EpisodePlan | None,
    under_way: int,
    hint: str,
) -> RunState:
    """Return the message of the run's state, but for its stamp.

    FITTING and SETTLING are announced only once the learner has every transition of the phase before.

    :param episode: the one under way, or the next
    :param under_way: transitions of the episode under way
    :param hint: what the run waits for, shown where the plan itself has nothing to say
    """
    phase = plan.phase
    waiting = assembler.unacknowledged_count
    if phase in HELD_BACK and (waiting or episode is not None):
        phase = HELD_BACK[phase]
        hint = f'waiting for the learner to store {waiting} transitions'
    if phase is Phase.DEMONSTRATING:
        so_far = (
            f'{plan.progress.of(phase).successes} of {plan.settings.demonstrations} demonstrations'
        )
        hint = f'{so_far}: {hint}' if hint else so_far
    online = under_way if episode is not None and episode.phase is Phase.ONLINE else 0
    return RunState(
        robot=robot,
        phase=int(phase),
        detail=plan.detail or hint,
        episode=episode.episode if episode else '',
        episode_number=episode.number if episode else plan.progress.of(phase).episodes,
        episodes_planned=plan.episodes_planned,
        mode=int(episode.mode if episode else Mode.BC),
        sequence=assembler.next_sequence - 1,
        acknowledged=assembler.acknowledged,
        online_steps=plan.online_steps + online,
        online_steps_planned=plan.settings.online_steps,
        rollbacks=plan.progress.rollbacks,
        rollback_version=plan.progress.rollback_version,
    )
