# SPDX-License-Identifier: Apache-2.0
"""The launch files start exactly the node graph: by a recording stand-in, and by the real launch where there is one."""

import importlib
import importlib.util
import json
import os
from pathlib import Path
import sys
import tempfile

import pytest
import yaml

from q2rl_bringup.arguments import ARGUMENTS, SIMULATIONS
from q2rl_bringup.cell_starts import CELL_STARTS, servo_graph
from q2rl_bringup.node_graph import FINAL_EXIT_CODE, build_graph
from q2rl_bringup.robots import ROBOTS
from q2rl_lab.run_folder import RunConfig, RunFolder
from q2rl_task import InputError, load_task

sys.path.insert(0, str(Path(__file__).parent))
import recording_launch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'src' / 'q2rl_bringup' / 'launch'
OF_THE_CELL = sorted(FOLDER / f'{name}.launch.py' for name in CELL_STARTS)
LAUNCH_FILES = sorted(set(FOLDER.glob('*.launch.py')) - set(OF_THE_CELL))
HAS_LAUNCH = importlib.util.find_spec('launch_ros') is not None
MODES = next(a.choices for a in ARGUMENTS if a.name == 'policy_mode')
TASKS = {'panda': 'pipe_assembly', 'fr3': 'pipe_assembly_fr3', 'ur5e': 'pipe_assembly_ur5e'}
STARTS = [
    *({'sim': sim, 'policy_mode': mode} for sim in SIMULATIONS for mode in MODES),
    *(
        {'sim': sim, 'robot_type': robot, 'task': TASKS[robot], 'namespace': namespace}
        for sim in ('mock', 'gazebo')
        for robot in ROBOTS
        for namespace in ('', 'left')
    ),
    {'sim': 'gazebo', 'headless': 'false', 'launch_rviz': 'true'},
    {'sim': 'none', 'scene': 'fixed', 'task': 'pipe_assembly_ur5e'},
    {'namespace': 'left', 'run_id': '0042', 'seed': '7', 'use_respawn': 'false'},
    {'launch_rviz': 'true', 'log_level': 'warn', 'lockstep': 'false', 'autostart': 'false'},
]


def load_launch_file(path):
    spec = importlib.util.spec_from_file_location('launch_file', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_in():
    name = 'q2rl_bringup.launch_graph'
    with recording_launch.installed():
        sys.modules.pop(name, None)
        yield importlib.import_module(name)
    del sys.modules[name]


def configurations(start):
    """Return what launch hands to the file: every declared argument as text, and whatever else is set."""
    return {**{a.name: a.text for a in ARGUMENTS}, **start, 'some_other_setting': '1'}


def with_run(start):
    # Gazebo's world is written there. A run that lacks nothing needs no preparation.
    folder = Path(tempfile.gettempdir()) / f'q2rl-launch-{os.getuid()}'
    folder.mkdir(exist_ok=True)
    for name in ('bc.safetensors', 'demonstrations.hdf5'):
        (folder / name).touch()
    return {'run_dir': str(folder), **start}


def plain(parameters):
    """Return recorded parameters as plain values."""
    found = {}
    for name, value in parameters.items():
        if isinstance(value, recording_launch.ParameterValue):
            assert value.value_type in (str, list[str])
            value = value.value
        else:
            # launch_ros would read a bare text, or a list of them, as YAML.
            assert isinstance(value, bool | int | float)
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def shown(action):
    """Return package, folder, file and arguments of a recorded include."""
    package, *path = action.launch_description_source.launch_file_path.substitutions
    return package.package, *path, dict(action.launch_arguments)


@pytest.mark.parametrize('start', STARTS, ids=str)
def test_the_file_makes_one_action_of_each_node_of_the_graph(stand_in, start):
    start = with_run(start)
    graph = build_graph(start)
    context = recording_launch.LaunchContext(configurations(start))
    actions = stand_in.launch_setup(context)
    included, actions = actions[: len(graph.includes)], actions[len(graph.includes) :]
    assert [shown(action) for action in included] == [
        (spec.package, 'launch', spec.file, dict(spec.arguments)) for spec in graph.includes
    ]
    assert bool(included) == (start.get('sim') == 'gazebo')
    assert all(path.read_text() == text for path, text in graph.files.items())
    assert [action.exec_name for action in actions] == [node.name for node in graph.nodes]
    for action, node in zip(actions, graph.nodes, strict=True):
        kind = recording_launch.LifecycleNode if node.managed else recording_launch.Node
        assert type(action) is kind
        assert (action.package, action.executable) == (node.package, node.executable)
        assert action.namespace == graph.namespace
        *files, parameters = action.parameters
        assert action.name == (node.name if node.named else None)
        expected = [graph.params_file] if node.managed else []
        assert files == [str(path) for path in (*expected, *node.files)]
        assert plain(parameters) == dict(node.parameters)
        assert tuple(action.remappings) == node.remappings
        assert tuple(action.arguments) == node.arguments
        assert action.ros_arguments == ['--log-level', graph.log_level]
        assert action.additional_env == graph.environment
        assert action.respawn == node.respawn
        assert action.respawn_delay == node.respawn_delay > 0
        assert action.respawn_max_retries == node.respawn_limit
        assert (action.on_exit is not None) == node.required


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_declared_with_its_default_and_description(stand_in, path):
    description = load_launch_file(path).generate_launch_description()
    *declared, last = description.entities
    assert last.function is stand_in.launch_setup
    assert [d.name for d in declared] == [a.name for a in ARGUMENTS]
    for ours, argument in zip(declared, ARGUMENTS, strict=True):
        task = path.name.removesuffix('.launch.py')
        assert ours.default_value == (task if argument.name == 'task' else argument.text)
        assert ours.description == argument.description
        assert tuple(ours.choices or ()) == argument.choices


@pytest.mark.parametrize('path', OF_THE_CELL, ids=lambda path: path.name)
def test_what_is_below_q2rl_declares_its_own_arguments(stand_in, path):
    *declared, last = load_launch_file(path).generate_launch_description().entities
    start = CELL_STARTS[path.name.removesuffix('.launch.py')]
    assert [(d.name, d.default_value) for d in declared] == [
        (a.name, a.text) for a in start.arguments
    ]
    context = recording_launch.LaunchContext({'task': 'no_such_task'})
    with pytest.raises(InputError, match='no_such_task'):
        last.function(context)


def test_servo_is_one_process_with_its_files_and_parameters(stand_in):
    last = load_launch_file(FOLDER / 'servo.launch.py').generate_launch_description().entities[-1]
    told = {'task': 'pipe_assembly_ur5e', 'some_other_setting': '1'}
    (action,) = last.function(recording_launch.LaunchContext(told))
    (servo,) = servo_graph({'task': 'pipe_assembly_ur5e'}).nodes
    *files, parameters = action.parameters
    assert (action.package, action.name) == ('moveit_servo', 'servo_node')
    assert files == [str(path) for path in servo.files]
    assert plain(parameters) == dict(servo.parameters) and not action.respawn


def test_bad_input_is_the_one_line_of_the_graph(stand_in):
    context = recording_launch.LaunchContext(configurations({'sim': 'none', 'lockstep': 'true'}))
    with pytest.raises(InputError, match='`lockstep`'):
        stand_in.launch_setup(context)


@pytest.mark.parametrize(
    ('respawn', 'codes', 'ends_at'),
    [
        ('true', [1, -9, 1, 1, 1, 1], 6),
        ('true', [-9, FINAL_EXIT_CODE], 2),
        ('false', [-9], 1),
    ],
)
def test_the_launch_ends_with_a_node_that_is_given_up(stand_in, respawn, codes, ends_at):
    context = recording_launch.LaunchContext(configurations(with_run({'use_respawn': respawn})))
    action = stand_in.launch_setup(context)[0]
    ends = [bool(action.on_exit(recording_launch.ProcessExited(code), context)) for code in codes]
    assert ends == [number == ends_at for number in range(1, len(codes) + 1)]


def test_a_process_that_does_one_thing_may_end_and_may_not_fail(stand_in):
    start = with_run({'sim': 'mock'})
    graph = build_graph(start)
    actions = stand_in.launch_setup(recording_launch.LaunchContext(configurations(start)))
    once = [a for a, node in zip(actions, graph.nodes, strict=True) if node.once]
    assert [a.exec_name for a in once] == ['spawn_active', 'spawn_inactive']
    for action in once:
        context = recording_launch.LaunchContext()
        assert action.on_exit(recording_launch.ProcessExited(0), context) == []
        assert action.on_exit(recording_launch.ProcessExited(1), context)


@pytest.mark.parametrize(('code', 'goes_on'), [(0, True), (FINAL_EXIT_CODE, False), (-9, False)])
@pytest.mark.parametrize('sim', ['mujoco', 'mock', 'gazebo'])
def test_a_run_that_lacks_a_clone_is_prepared_before_all_else(
    stand_in, tmp_path, sim, code, goes_on
):
    start = {'run_dir': str(tmp_path / 'one'), 'sim': sim, 'seed': '3'}
    graph = build_graph(start)
    context = recording_launch.LaunchContext(configurations(start))
    (prepare,) = stand_in.launch_setup(context)
    assert (prepare.package, prepare.executable) == ('q2rl_lab', 'prepare_run')
    folder, asked = prepare.arguments
    assert folder == start['run_dir']
    config = RunConfig.of_task(load_task('pipe_assembly'), **json.loads(asked))
    assert (config.task, config.seed, config.sim) == ('pipe_assembly', 3, sim)
    then = prepare.on_exit(recording_launch.ProcessExited(code), context)
    if goes_on:
        names = [a.exec_name for a in then if isinstance(a, recording_launch.Node)]
        assert names == [node.name for node in graph.nodes]
        assert len(then) == len(graph.nodes) + len(graph.includes)
    else:
        assert [type(action) for action in then] == [recording_launch.Shutdown]


@pytest.mark.parametrize(
    'start',
    [
        {'sim': 'none'},
        {'part': 'learner'},
        {'part': 'robot'},
        {'policy_mode': 'demonstrate'},
        {'policy_mode': 'bc', 'bc_checkpoint': __file__},
    ],
    ids=lambda start: ' '.join(start.values())[:20],
)
def test_nothing_is_made_up_for_a_real_arm_a_person_or_half_a_run(tmp_path, start):
    assert build_graph({'run_dir': str(tmp_path / 'one'), **start}).preparation is None


@pytest.mark.parametrize(
    'start', [{'sim': 'none'}, {'part': 'robot', 'policy_mode': 'bc'}, {'part': 'learner'}], ids=str
)
def test_a_run_that_is_given_all_it_needs_is_known_to_the_report(stand_in, tmp_path, start):
    start = {'run_dir': str(tmp_path / 'one'), 'seed': '7', 'online_steps': '300', **start}
    stand_in.launch_setup(recording_launch.LaunchContext(configurations(start)))
    folder = RunFolder(tmp_path / 'one')
    config = folder.read_config()
    assert (config.task, config.seed, config.steps) == ('pipe_assembly', 7, 300)
    assert config.sim == start.get('sim', 'mujoco')
    before = folder.config.read_bytes()
    stand_in.launch_setup(recording_launch.LaunchContext(configurations({**start, 'seed': '8'})))
    assert folder.config.read_bytes() == before


def test_the_launch_ends_with_the_demonstrations(stand_in):
    start = with_run({'policy_mode': 'demonstrate'})
    for code, shuts_down, ends in ((0, False, True), (0, True, False), (-9, False, False)):
        context = recording_launch.LaunchContext(configurations(start), is_shutdown=shuts_down)
        actions = {action.exec_name: action for action in stand_in.launch_setup(context)}
        recorder = actions['demonstration_recorder']
        assert bool(recorder.on_exit(recording_launch.ProcessExited(code), context)) is ends


def test_a_node_that_ends_while_the_launch_shuts_down_is_no_news(stand_in):
    context = recording_launch.LaunchContext(configurations(with_run({})), is_shutdown=True)
    action = stand_in.launch_setup(context)[0]
    assert action.on_exit(recording_launch.ProcessExited(FINAL_EXIT_CODE), context) == []


@pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros comes with a ROS installation')
@pytest.mark.parametrize('start', STARTS, ids=str)
def test_the_real_launch_makes_the_same_processes(start):
    from launch import LaunchContext
    from launch_ros.actions import LifecycleNode

    start = with_run(start)
    graph = build_graph(start)
    context = LaunchContext()
    for name, value in configurations(start).items():
        context.launch_configurations[name] = value
    actions = importlib.import_module('q2rl_bringup.launch_graph').launch_setup(context)
    included, actions = actions[: len(graph.includes)], actions[len(graph.includes) :]
    for action, spec in zip(included, graph.includes, strict=True):
        told = {k: v for k, v in action.launch_arguments}
        assert told == dict(spec.arguments)
    for action, node in zip(actions, graph.nodes, strict=True):
        assert isinstance(action, LifecycleNode) == node.managed
        action._perform_substitutions(context)
        assert action.node_package == node.package
        assert action.node_executable == node.executable
        if node.named:
            assert action.node_name == graph.full_name(node)
        files = [
            Path(path) for path, is_file in action._Node__expanded_parameter_arguments if is_file
        ]
        expected = [graph.params_file] if node.managed else []
        assert files == [*expected, *node.files, *files[len(expected) + len(node.files) :]]
        if not node.parameters:
            continue
        ours = yaml.safe_load(graph.parameter_file(node))
        assert yaml.safe_load(files[-1].read_text()) == ours
        assert tuple(action.expanded_remapping_rules or ()) == node.remappings


@pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros comes with a ROS installation')
def test_the_real_launch_declares_the_arguments():
    description = load_launch_file(LAUNCH_FILES[0]).generate_launch_description()
    assert [a.name for a in description.get_launch_arguments()] == [a.name for a in ARGUMENTS]


@pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros comes with a ROS installation')
def test_the_real_launch_gives_servo_its_solver_under_the_name_that_it_reads():
    from launch import LaunchContext

    description = load_launch_file(FOLDER / 'servo.launch.py').generate_launch_description()
    context = LaunchContext()
    context.launch_configurations['task'] = 'pipe_assembly_ur5e'
    (action,) = description.entities[-1].execute(context)
    action._perform_substitutions(context)
    files = [Path(path) for path, is_file in action._Node__expanded_parameter_arguments if is_file]
    (told,) = yaml.safe_load(files[-1].read_text()).values()
    told = told['ros__parameters']
    assert told['robot_description_kinematics.arm.kinematics_solver'].startswith('kdl_')
