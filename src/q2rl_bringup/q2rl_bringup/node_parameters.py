# SPDX-License-Identifier: Apache-2.0
"""What each node of a graph gets beside the parameters that all have, from the arguments of the start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from q2rl_bringup.arguments import BROWSER, Value
from q2rl_bringup.graph_specs import ParameterValue
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import ROBOTS, known_robot
from q2rl_bringup.run_preparation import clone_file, demonstrations_file, given_weights
from q2rl_bringup.share import share_path
from q2rl_learner.config import load_preset
from q2rl_task import InputError, TaskSpec

EVALUATION_MODES = {'gated': ('BC', 'GATED', 'RL'), 'bc': ('BC',), 'rl': ('RL',), 'shadow': ('BC',)}
ACTING_BY_WEIGHTS = {'gated': ('GATED',), 'rl': ('RL',), 'shadow': ('BC',)}
"""By policy_mode, where weights are given: the modes whose episodes are run."""
DEMONSTRATE = 'demonstrate'
RECORDER = 'demonstration_recorder'
TRANSITION_RECORDER = 'transition_recorder'
PATIENCE_S = 600.0
"""A simulation that waits, waits so long for a person who thinks."""


def own_parameters(
    args: Mapping[str, Value], task: TaskSpec, run_dir: Path, run_id: str, run: Collection[str]
) -> dict[str, dict[str, ParameterValue]]:
    """Return what each node gets beside the common parameters.

    :param run: the nodes of the run: whoever runs where, an episode starts when all are there
    """
    seed, mode = args['seed'], args['policy_mode']
    checkpoint = clone_file(args, run_dir)
    learns = mode in ('gated', 'shadow') and args['learn']
    modes = ACTING_BY_WEIGHTS if args['weights'] else EVALUATION_MODES
    config = load_preset(args['preset'])
    # What the method decides of acting; where it leaves a choice alone, the params file has the word.
    entropy = {} if config.entropy == 'monte_carlo' else {'entropy': config.entropy}
    soft = config.acting.soft_temperature
    # In the shadow every episode is BC's own as well: the gate is not all that keeps RL from acting.
    bc_only = {'bc_only_every': 1, 'rl_only_every': 0} if mode == 'shadow' else {}
    wanted = {'demonstrations': args['demonstrations'] if mode == DEMONSTRATE else 0}
    return {
        'mujoco_arm': {
            'seed': seed,
            'trace_file': str(run_dir / 'trace.bin'),
            'command_interface': _command_interface(args),
        },
        'arm_interface': _commanding(args, task),
        'bc_policy': {'checkpoint': checkpoint, 'seed': seed, **entropy},
        'rl_policy': {
            'rl_action': config.acting.rl_action,
            'rl_noise': config.acting.rl_noise,
            'rl_correlation': config.acting.rl_correlation,
            'seed': seed,
            'weights': given_weights(args, 'actor'),
        },
        # The gate scores BC with the temperature that the critics are trained against.
        'q_gate': {
            'alpha': config.alpha,
            'bc_value': config.acting.bc_value,
            'chooser': 'shadow' if mode == 'shadow' else config.acting.chooser,
            'seed': seed,
            'weights': given_weights(args, 'critic'),
            **({'soft_temperature': soft} if soft else {}),
        },
        'learner': {
            'preset': args['preset'],
            'device': args['device'],
            'demos': demonstrations_file(args, run_dir),
            'bc_checkpoint': checkpoint,
            'rollouts': args['rollouts'],
            'seed': seed,
        },
        'episode_manager': {
            'run_id': run_id,
            'seed': seed,
            'rollouts': 0 if mode in ('bc', 'rl') else args['rollouts'],
            'online_steps': args['online_steps'] if learns else 0,
            'goal': args['goal'],
            'drop_bc': args['drop_bc'],
            'evaluation_episodes': args['eval_episodes'],
            'evaluation_modes': modes.get(mode, ('BC',)),
            'without_learner': TRANSITION_RECORDER in run,
            'resume': args['resume'],
            **bc_only,
            **wanted,
            'wait_for': tuple(name for name in run if name != 'episode_manager'),
        },
        RECORDER: wanted,
        'tip_state': _tip_state(args),
    }


def command_sink(args: Mapping[str, Value]) -> str:
    """Return how the arm is commanded."""
    if args['command_sink'] != 'auto':
        return args['command_sink']
    return 'joint_position' if args['sim'] in ('mock', 'gazebo') else 'pose_target'


def _command_interface(args: Mapping[str, Value]) -> str:
    """Return what the simulated arm is commanded by."""
    return 'joints' if command_sink(args) == 'joint_position' else 'pose'


def _commanding(args: Mapping[str, Value], task: TaskSpec) -> dict[str, ParameterValue]:
    """Return what arm_interface must know to command the arm and to plan resets: of the robot only what these ask."""
    sink = command_sink(args)
    chosen: dict[str, ParameterValue] = {
        'command_sink': sink,
        'planner': args['planner'],
        'hold_at_start': args['sim'] == 'none',  # a real arm is armed by a person
    }
    if args['sim'] == 'gazebo':
        chosen['tare'] = 'measure'  # its force-torque sensor weighs the tool
    if args['sim'] == 'mujoco':
        chosen['target_rate'] = 0.0  # it interpolates itself
    if args['teleop'] == BROWSER:
        chosen['lockstep_timeout'] = PATIENCE_S
    by_joints = sink == 'joint_position' and args['sim'] != 'none'
    if by_joints or args['planner'] != 'straight' or args['description_file']:
        chosen['robot_description'] = description(args, task)
    if args['planner'] == 'moveit':
        robot = known_robot(task.frames.base, chosen['robot_description'])
        if robot is not None:
            chosen['moveit_folder'] = str(robot.moveit)
    return chosen


def _tip_state(args: Mapping[str, Value]) -> dict[str, ParameterValue]:
    """Return what tip_state must know of a real arm; a simulation's it hears from robot_state_publisher."""
    if args['sim'] != 'none' or not args['description_file']:
        return {}
    return {'robot_description': str(Path(args['description_file']).absolute())}


def description(args: Mapping[str, Value], task: TaskSpec) -> str:
    """Return the robot's URDF."""
    given = args['description_file']
    if given:
        return existing(given, 'description_file', '').read_text()
    return robot_urdf(task, ROBOTS[args['robot_type']])


def params_file(args: Mapping[str, Value]) -> Path:
    """Return the parameter file of a start."""
    return existing(args['params_file'], 'params_file', 'config/q2rl.params.yaml')


def existing(given: str, argument: str, default: str) -> Path:
    """Return the file that an argument names, or the one of the package that stands for it.

    :raises InputError: there is none
    """
    path = Path(given).absolute() if given else share_path(default)
    if not path.is_file():
        raise InputError(f'argument `{argument}`', f'no file {path}', 'name an existing file')
    return path
