# SPDX-License-Identifier: Apache-2.0
"""The parameters of `episode_manager`, and the run settings that they make."""

from __future__ import annotations

from dataclasses import fields

from q2rl_control.run_settings import RunSettings
from q2rl_ros.node import Q2rlNode
from q2rl_task import InputError, Mode

POLICY_MODES = [mode.name for mode in Mode if mode is not Mode.HUMAN]
NUMBERS = {
    'seed': (2**62, 'Seed of all scenes and start poses.'),
    'rollouts': (10**5, 'BC-only episodes before the fit; 0: only evaluate.'),
    'most_rollouts': (
        10**6,
        'Draw them out to so many while they tell too little to start from; 0: three times `rollouts`.',
    ),
    'online_steps': (10**9, 'Transitions of the online phase.'),
    'goal': (
        100,
        'End the online phase early once so many percent of the last 50 gated episodes succeeded; 0: never.',
    ),
    'bc_only_every': (10**6, 'One online episode in so many on BC alone; 0: none.'),
    'rl_only_every': (10**6, 'One online episode in so many on RL alone; 0: none.'),
    'bc_only_every_graduated': (
        10**6,
        'The same for BC alone once the run has graduated; 0: none.',
    ),
    'evaluation_episodes': (10**6, 'Fresh scenes at the end, each once per mode.'),
    'graduation_evidence': (
        1e12,
        'E-value for "RL alone beats BC" at which the run graduates; 0: never.',
    ),
    'drift_evidence': (
        1e12,
        "Success below BC's lets BC act alone until it is clear why: without cause at most once in so many episodes; "
        '0: never.',
    ),
    'demonstrations': (
        10**6,
        'Episodes in which a person has to succeed, and nothing else is run; 0: a run of policies.',
    ),
}
"""Of each number in `RunSettings`, all from 0 on, the largest and what it means."""


def declare_run_parameters(node: Q2rlNode) -> None:
    """Declare them on `node`."""
    default = RunSettings(run_id='run', seed=0)
    node.declare('run_id', default.run_id, 'Name of the run: the beginning of every episode id.')
    for name, (largest, what) in NUMBERS.items():
        node.declare(name, getattr(default, name), what, low=0, high=largest)
    node.declare(
        'evaluation_modes',
        [mode.name for mode in default.evaluation_modes],
        'Modes to evaluate: BC, GATED, RL.',
    )
    node.declare('drop_bc', default.drop_bc, 'Once graduated, RL acts alone in place of the gate.')
    node.declare(
        'without_learner',
        default.without_learner,
        'What acts is given, and transition_recorder keeps the transitions.',
    )
    node.declare(
        'pause_after_episode',
        default.pause_after_episode,
        'Pause after every episode, until a person has set the scene up again and resumes the run.',
    )
    node.declare('resume', False, 'Go on with a run that was stopped.')
    node.declare('wait_for', ['arm_interface'], 'Nodes that must be active before the run starts.')
    node.declare(
        'max_unacknowledged',
        2000,
        'With more transitions waiting no episode starts.',
        low=1,
        high=19000,
    )
    node.declare(
        'learner_silence',
        30.0,
        'Silence of the learner [s] after which no episode starts.',
        low=0.5,
        high=3600.0,
    )
    node.declare(
        'resend_after', 3.0, 'Age [s] at which a transition is sent again.', low=0.1, high=600.0
    )
    node.declare(
        'service_timeout',
        3.0,
        'Age [s] at which a service call is made again; twice as long after each time.',
        low=0.1,
        high=600.0,
    )
    node.declare(
        'service_patience',
        120.0,
        'Time [s] without an answer after which the run stops, or evaluates without its learner.',
        low=1.0,
        high=86400.0,
    )
    node.declare(
        'abandon_after',
        3.0,
        'Time [s] after which an episode the arm is not at is dropped.',
        low=0.1,
        high=600.0,
    )


def read_run_settings(node: Q2rlNode) -> RunSettings:
    """Return the settings of the run.

    :raises InputError: unknown mode, or a value out of range
    """
    modes = []
    for name in node.value('evaluation_modes'):
        if name.upper() not in POLICY_MODES:
            raise InputError(
                'parameter `evaluation_modes` of episode_manager',
                f'unknown mode {name!r}',
                f'name some of {", ".join(POLICY_MODES)}',
            )
        modes.append(Mode[name.upper()])
    plain = {f.name for f in fields(RunSettings)} - {'evaluation_modes'}
    return RunSettings(**{n: node.value(n) for n in plain}, evaluation_modes=tuple(modes))
