# SPDX-License-Identifier: Apache-2.0
"""The arguments of a start: what a user may say, declared once for `ros2 launch` and for `q2rl up`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from q2rl_bringup.robots import ROBOTS
from q2rl_control.teleop_mapping import LAYOUTS
from q2rl_learner.learned_weights import holds_weights, settings_of
from q2rl_task import InputError, TaskSpec

Value = str | int | float | bool
TRUTH = {'true': True, 'false': False}
SIMULATIONS = ('none', 'mujoco', 'mock', 'gazebo')
DEVICES = tuple(LAYOUTS)
"""What `teleop` listens to."""
BROWSER = 'browser'
BY_TASK = -1
"""A number that the task says (its section `learning`)."""


@dataclass(frozen=True)
class Argument:
    """One argument of a start. Its type is that of `default`; launch files pass everything as text.

    :param choices: allowed values of a text; empty: any
    :param least: smallest value of a number
    """

    name: str
    default: Value
    description: str
    choices: tuple[str, ...] = ()
    least: int | None = None

    @property
    def text(self) -> str:
        """The default as a user would type it."""
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)

    def parse(self, value: object) -> Value:
        """Return `value`, given as text or in its own type, in the argument's type.

        :raises InputError: not of that type, not one of the choices, or too small
        """
        text = str(value).strip()
        if isinstance(self.default, bool):
            if text.lower() not in TRUTH:
                raise self._error(f'{text!r} is neither true nor false', 'say true or false')
            return TRUTH[text.lower()]
        if isinstance(self.default, int):
            try:
                number = int(text)
            except ValueError:
                raise self._error(
                    f'{text!r} is not a whole number', 'give a whole number'
                ) from None
            if self.least is not None and number < self.least:
                raise self._error(f'{number} is too small', f'give {self.least} or more')
            return number
        if self.choices and text not in self.choices:
            raise self._error(f'unknown value {text!r}', f'say one of {", ".join(self.choices)}')
        return text

    def _error(self, problem: str, remedy: str) -> InputError:
        return InputError(f'argument `{self.name}`', problem, remedy)


ARGUMENTS = (
    Argument(
        'task', 'pipe_assembly', 'Task: the name of a shipped one, or the path of a task YAML.'
    ),
    Argument(
        'sim',
        'mujoco',
        'What stands in for the robot. none: nothing, a real arm is behind the topics of its controllers. mujoco: '
        'a Panda, no ROS installation needed. mock: ros2_control with mock hardware, to see controllers and topics. '
        'gazebo: ros2_control in Gazebo Harmonic. The last two need a ROS 2 Jazzy with these packages.',
        SIMULATIONS,
    ),
    Argument(
        'robot_type',
        'panda',
        "The arm of sim:=mock and sim:=gazebo; the task's base frame must be its.",
        tuple(ROBOTS),
    ),
    Argument(
        'part',
        'all',
        'Which processes to start. robot: all but the learner; learner: only that, on another machine.',
        ('all', 'robot', 'learner'),
    ),
    Argument('headless', True, 'sim:=gazebo: the server alone, without a window.'),
    Argument(
        'lockstep',
        'auto',
        'Whether the simulation steps when each decision is in, as fast as the machine allows, and '
        'every node runs on its clock (use_sim_time); false: a wall-clock tick. auto: true with '
        'sim:=mujoco, the only one that waits, unless a person demonstrates.',
        ('auto', 'true', 'false'),
    ),
    Argument(
        'command_sink',
        'auto',
        'How the arm is commanded. pose_target: a Cartesian controller; joint_position: a '
        'forward_command_controller; servo_twist: MoveIt Servo (not with a MuJoCo simulation). auto: joint_position '
        'with sim:=mock and sim:=gazebo, whose only active controller takes these, else pose_target.',
        ('auto', 'pose_target', 'joint_position', 'servo_twist'),
    ),
    Argument(
        'teleop',
        'none',
        'Device with which a person takes over, labels episodes and stops; its driver node is started elsewhere. '
        'browser: none, they steer on the page, which is served then; only to demonstrate in a MuJoCo simulation.',
        ('none', *DEVICES, BROWSER),
    ),
    Argument(
        'policy_mode',
        'gated',
        'Who acts. gated: BC-only rollouts, then the gate chooses at every tick while RL learns, then all '
        'three modes are evaluated. bc: BC is evaluated from the first episode on, and nothing else; no learner is '
        'started. rl: the same of RL, by what the folder learner/ in run_dir holds. shadow: BC alone acts, from the '
        'first step to the last; RL learns beside it and is only scored. demonstrate: a person, by `human_action` '
        '(teleop); no policies, and the episodes in which they succeed become demonstrations.hdf5.',
        ('gated', 'bc', 'rl', 'shadow', 'demonstrate'),
    ),
    Argument(
        'demonstrations',
        BY_TASK,
        "How many demonstrations policy_mode demonstrate ends with. -1: the task's.",
        least=BY_TASK,
    ),
    Argument(
        'learn',
        True,
        'Whether policy_mode gated or shadow has its online phase; false: estimate and evaluate only.',
    ),
    Argument(
        'run_dir',
        '',
        'Folder of the run; one that was cut off there goes on. Empty: runs/<run_id>.',
    ),
    Argument(
        'run_id',
        '',
        'Name of the run, which the ids of its episodes begin with. Empty: the name of run_dir, or a time stamp.',
    ),
    Argument(
        'resume', False, 'Whether a run that was stopped in run_dir, not cut off, goes on too.'
    ),
    Argument(
        'planner',
        'straight',
        'How the way to a start pose is found. straight: it is a line. ompl: round what is in the way, by OMPL and '
        'Pinocchio. moveit: by MoveIt (moveit_py).',
        ('straight', 'ompl', 'moveit'),
    ),
    Argument(
        'description_file',
        '',
        "URDF of the robot with what it holds, for planners and RViz. Empty: the Panda with the task's tool. With "
        'sim:=none it also starts tip_state, unless params_file takes the pose from elsewhere.',
    ),
    Argument(
        'scene',
        'elsewhere',
        'Who serves prepare_scene and publishes success_signal with sim:=none. elsewhere: a node of yours. fixed: '
        'fixed_scene, for a fixture that is bolted down and a switch on a topic of type std_msgs/Bool.',
        ('elsewhere', 'fixed'),
    ),
    Argument('robot', 'arm', 'Name of the robot, unique among those that share a learner.'),
    Argument(
        'seed', 0, 'Seed of scenes, start poses, samples and networks; 0 is a seed too.', least=0
    ),
    Argument(
        'preset',
        '',
        "The learner's settings: laptop, laptop-long, paper, or the path of a YAML; +METHOD lays a method over it "
        "(laptop+ibrl). Empty: the task's.",
    ),
    Argument(
        'device',
        'cpu',
        'Where the learner computes: cpu, cuda, or one GPU of several, cuda:1. Policies and gate stay on the CPU.',
    ),
    Argument(
        'bc_checkpoint',
        '',
        'BC policy (.safetensors, or .yaml). Empty: bc.safetensors in the run folder, or beside the weights.',
    ),
    Argument(
        'weights',
        '',
        'Folder of what was learned, written by ./q2rl export: policy_mode gated, rl or shadow acts by it for '
        'eval_episodes episodes. No learner is started, nothing is learned. Empty: the learner says.',
    ),
    Argument(
        'demos',
        '',
        'Demonstrations (HDF5) that the learner mixes in. Empty: demonstrations.hdf5 in the run folder; none: without.',
    ),
    Argument(
        'rollouts',
        BY_TASK,
        "BC-only episodes that V is fitted on, 2 or more. -1: the task's.",
        least=BY_TASK,
    ),
    Argument(
        'online_steps',
        BY_TASK,
        "Transitions of the online phase. -1: the task's.",
        least=BY_TASK,
    ),
    Argument(
        'goal',
        0,
        'End the online phase early once so many percent of the last 50 gated episodes succeeded. 0: never.',
        least=0,
    ),
    Argument(
        'drop_bc',
        False,
        'Once graduated (RL alone is shown to beat BC), RL acts alone in place of the gate, until success falls.',
    ),
    Argument(
        'eval_episodes', 20, 'Fresh scenes of the evaluation, each run once per mode.', least=0
    ),
    Argument(
        'namespace',
        '',
        'Namespace of all nodes and topics, one per robot (for instance left). Empty: none.',
    ),
    Argument(
        'params_file',
        '',
        'Node parameters (YAML). Empty: q2rl.params.yaml of q2rl_bringup. What these arguments set wins over the file.',
    ),
    Argument(
        'autostart',
        True,
        'Whether each node configures and activates itself; false: use `ros2 lifecycle set`.',
    ),
    Argument('use_respawn', True, 'Whether a node that dies is started again (a few times).'),
    Argument(
        'log_level',
        'info',
        'Least severe messages that are logged.',
        ('debug', 'info', 'warn', 'error', 'fatal'),
    ),
    Argument(
        'launch_rviz',
        False,
        'Whether to start RViz, and with a simulation the robot_state_publisher.',
    ),
    Argument('rviz_config_file', '', 'RViz configuration. Empty: that of the task.'),
    Argument(
        'browser',
        False,
        "Whether to serve a page with the cell and the operator's buttons, to browsers on this machine only.",
    ),
    Argument('browser_port', 8080, 'TCP port of that page.', least=1),
)
"""All arguments, in the order in which they are shown."""


def parse_arguments(
    given: Mapping[str, object], declared: Sequence[Argument] = ARGUMENTS
) -> dict[str, Value]:
    """Return the value of every argument of `declared`: of `given` (texts or typed values), else the default.

    :raises InputError: an unknown argument or value
    """
    known = {argument.name: argument for argument in declared}
    for name in given:
        if name not in known:
            raise InputError(
                f'argument `{name}`', 'is unknown', f'the arguments are {", ".join(known)}'
            )
    return {name: arg.parse(given.get(name, arg.default)) for name, arg in known.items()}


def as_the_task_says(args: Mapping[str, Value], task: TaskSpec) -> dict[str, Value]:
    """Return `args` with what is left to the task in place.

    :raises InputError: too few rollouts or demonstrations, or no weights where they should be
    """
    learning = task.learning
    rollouts, steps = args['rollouts'], args['online_steps']
    if rollouts in (0, 1):
        raise InputError('argument `rollouts`', f'{rollouts} is too small', 'give 2 or more')
    demonstrations = args['demonstrations']
    if demonstrations == 0:
        raise InputError('argument `demonstrations`', '0 is too few', 'give 1 or more')
    preset, weights = learning.preset, args['weights']
    if weights:
        if rollouts > 0 or steps > 0:
            problem = 'nothing learns with weights that are given'
            raise InputError(
                'argument `weights`', problem, 'leave out rollouts and online_steps, or the weights'
            )
        folder = _folder_of_weights(weights)
        weights, preset = str(folder), settings_of(folder, preset)
        rollouts = steps = 0
    return {
        **args,
        'weights': weights,
        'preset': args['preset'] or preset,
        'rollouts': learning.rollouts if rollouts == BY_TASK else rollouts,
        'online_steps': learning.online_steps if steps == BY_TASK else steps,
        'demonstrations': (
            task.demonstrations.count if demonstrations == BY_TASK else demonstrations
        ),
    }


def _folder_of_weights(given: str) -> Path:
    folder = Path(given).absolute()
    if not holds_weights(folder):
        raise InputError(
            'argument `weights`',
            f'{folder} does not hold an actor and a critic',
            'name a folder that ./q2rl export wrote',
        )
    return folder
