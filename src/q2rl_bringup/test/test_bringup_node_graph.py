# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
import subprocess
import sys

import pytest
import yaml

from q2rl_bringup.arguments import ARGUMENTS, parse_arguments
from q2rl_bringup.node_graph import build_graph
from q2rl_bringup.robots import ROBOTS
from q2rl_learner.config import load_preset
from q2rl_task import InputError, load_task

SIMULATED = {
    'mujoco_arm', 'arm_interface', 'bc_policy', 'rl_policy', 'q_gate', 'learner', 'episode_manager',
}  # fmt: skip


def names(graph):
    return {node.name for node in graph.nodes}


def parameters(graph, name):
    return next(node.parameters for node in graph.nodes if node.name == name)


def test_the_defaults_start_the_whole_simulated_cell_in_lockstep():
    graph = build_graph({'run_dir': '/tmp/runs/one'})
    assert names(graph) == SIMULATED
    for node in graph.nodes:
        assert node.parameters['lockstep'] is True and node.parameters['use_sim_time'] is True
        assert node.parameters['run_dir'] == '/tmp/runs/one'
        assert node.respawn and node.required and node.managed


def test_a_real_cell_has_no_simulation_and_runs_on_the_wall_clock():
    graph = build_graph({'sim': 'none'})
    assert names(graph) == SIMULATED - {'mujoco_arm'}
    assert not any(
        node.parameters['lockstep'] or node.parameters['use_sim_time'] for node in graph.nodes
    )
    assert 'mujoco_arm' not in parameters(graph, 'episode_manager')['wait_for']


@pytest.mark.parametrize('sim', ['mujoco', 'none'])
def test_only_a_real_arm_waits_at_each_start_for_a_person_to_arm_it(sim):
    graph = build_graph({'sim': sim, 'policy_mode': 'demonstrate'})
    assert parameters(graph, 'arm_interface')['hold_at_start'] is (sim == 'none')


def test_the_episode_manager_waits_for_every_other_managed_node():
    graph = build_graph({'launch_rviz': 'true'})
    waited = set(parameters(graph, 'episode_manager')['wait_for'])
    assert waited == SIMULATED - {'episode_manager'}


@pytest.mark.parametrize(
    ('mode', 'learn', 'rollouts', 'steps', 'modes'),
    [
        ('gated', 'true', 7, 500, ('BC', 'GATED', 'RL')),
        ('gated', 'false', 7, 0, ('BC', 'GATED', 'RL')),
        ('bc', 'true', 0, 0, ('BC',)),
        ('rl', 'true', 0, 0, ('RL',)),
        ('shadow', 'true', 7, 500, ('BC',)),
        ('shadow', 'false', 7, 0, ('BC',)),
    ],
)
def test_policy_mode_decides_what_is_learned_and_evaluated(mode, learn, rollouts, steps, modes):
    given = {'policy_mode': mode, 'learn': learn, 'rollouts': '7', 'online_steps': '500'}
    manager = parameters(build_graph(given), 'episode_manager')
    assert (manager['rollouts'], manager['online_steps']) == (rollouts, steps)
    assert manager['evaluation_modes'] == modes


@pytest.fixture
def weights(tmp_path):
    for name in ('actor.safetensors', 'critic.safetensors'):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ('mode', 'modes'), [('gated', ('GATED',)), ('rl', ('RL',)), ('shadow', ('BC',))]
)
def test_weights_that_are_given_act_and_nothing_learns(weights, mode, modes):
    graph = build_graph({'policy_mode': mode, 'weights': str(weights), 'sim': 'none'})
    assert 'learner' not in names(graph) and graph.preparation is None
    manager = parameters(graph, 'episode_manager')
    assert (manager['rollouts'], manager['online_steps']) == (0, 0)
    assert manager['evaluation_modes'] == modes and manager['without_learner']
    assert 'learner' not in manager['wait_for']
    assert parameters(graph, 'rl_policy')['weights'] == str(weights / 'actor.safetensors')
    assert parameters(graph, 'q_gate')['weights'] == str(weights / 'critic.safetensors')
    assert parameters(graph, 'bc_policy')['checkpoint'] == str(weights / 'bc.safetensors')


def test_a_run_by_weights_keeps_which_they_were(weights):
    graph = build_graph({'weights': str(weights), 'sim': 'none'})
    (text,) = (t for path, t in graph.files.items() if path.name == 'config.json')
    asked = json.loads(text)['asked']
    assert asked['weights'] == str(weights) and asked['steps'] == 0
    assert asked['bc'] == str(weights / 'bc.safetensors')


def test_weights_are_gated_as_they_were_learned(weights):
    given = {'weights': str(weights)}
    assert parameters(build_graph(given), 'q_gate')['bc_value'] == 'density'
    (weights / 'settings.yaml').write_text('acting: {bc_value: critic}')
    assert parameters(build_graph(given), 'q_gate')['bc_value'] == 'critic'
    (weights / 'bc.yaml').touch()
    found = parameters(build_graph(given), 'bc_policy')['checkpoint']
    assert found == str(weights / 'bc.yaml')


@pytest.mark.parametrize(
    ('more', 'named'),
    [
        ({'policy_mode': 'bc'}, '`weights`'),
        ({'part': 'learner'}, '`part`'),
        ({'online_steps': 3000}, '`weights`'),
        ({'rollouts': 20}, '`weights`'),
    ],
)
def test_weights_where_nothing_acts_by_them_are_refused(weights, more, named):
    with pytest.raises(InputError, match=named):
        build_graph({'weights': str(weights), **more})


@pytest.mark.parametrize('part', ['all', 'robot'])
def test_where_only_bc_is_evaluated_no_learner_runs_and_none_is_waited_for(part):
    graph = build_graph({'policy_mode': 'bc', 'part': part})
    assert names(graph) == SIMULATED - {'learner'} | {'transition_recorder'}
    assert 'learner' not in parameters(graph, 'episode_manager')['wait_for']


@pytest.mark.parametrize('sim', ['mujoco', 'none'])
def test_a_person_demonstrates_in_real_time_without_policies_and_the_recorder_ends_the_start(sim):
    graph = build_graph({'sim': sim, 'policy_mode': 'demonstrate', 'teleop': 'gamepad'})
    robot = {'arm_interface', 'episode_manager', 'demonstration_recorder', 'teleop'}
    assert names(graph) == robot | ({'mujoco_arm'} if sim == 'mujoco' else set())
    assert not any(
        node.parameters['lockstep'] or node.parameters['use_sim_time'] for node in graph.nodes
    )
    assert [node.name for node in graph.nodes if node.last] == ['demonstration_recorder']
    manager = parameters(graph, 'episode_manager')
    assert 'demonstration_recorder' in manager['wait_for'] and 'teleop' not in manager['wait_for']
    wanted = load_task('pipe_assembly').demonstrations.count
    assert manager['demonstrations'] == wanted
    assert parameters(graph, 'demonstration_recorder')['demonstrations'] == wanted


@pytest.mark.parametrize('lockstep', ['auto', 'true'])
def test_who_steers_in_the_browser_needs_no_device_and_gets_the_page(lockstep):
    given = {'policy_mode': 'demonstrate', 'teleop': 'browser', 'lockstep': lockstep}
    graph = build_graph(given)
    assert 'teleop' not in names(graph) and parameters(graph, 'operator_view')['steer']
    assert all(node.parameters['lockstep'] == (lockstep == 'true') for node in graph.nodes)
    for other in ({'browser': 'true'}, {**given, 'teleop': 'none', 'browser': 'true'}):
        assert not parameters(build_graph(other), 'operator_view')['steer']


@pytest.mark.parametrize('sim', ['none', 'mock', 'gazebo'])
def test_nobody_steers_an_arm_in_the_browser_that_is_not_simulated_here(sim):
    with pytest.raises(InputError, match='dead man'):
        build_graph({'sim': sim, 'policy_mode': 'demonstrate', 'teleop': 'browser'})


def test_a_program_may_demonstrate_in_lockstep_and_so_many_as_it_is_told():
    given = {'policy_mode': 'demonstrate', 'lockstep': 'true', 'demonstrations': '3'}
    graph = build_graph(given)
    assert all(node.parameters['lockstep'] for node in graph.nodes)
    assert parameters(graph, 'episode_manager')['demonstrations'] == 3
    assert parameters(build_graph({}), 'episode_manager')['demonstrations'] == 0
    assert not any(node.last for node in build_graph({}).nodes)


@pytest.mark.parametrize('preset', ['laptop', 'laptop+rlpd'])
def test_in_the_shadow_neither_the_gate_nor_an_episode_lets_rl_act(preset):
    graph = build_graph({'policy_mode': 'shadow', 'preset': preset})
    assert parameters(graph, 'q_gate')['chooser'] == 'shadow'
    manager = parameters(graph, 'episode_manager')
    assert (manager['bc_only_every'], manager['rl_only_every']) == (1, 0)


@pytest.mark.parametrize('preset', ['laptop', 'paper'])
def test_the_gate_gets_the_temperature_that_the_critics_are_trained_with(preset):
    assert (
        parameters(build_graph({'preset': preset}), 'q_gate')['alpha'] == load_preset(preset).alpha
    )


def test_files_lie_in_the_run_folder_unless_named(tmp_path):
    graph = build_graph({'run_dir': str(tmp_path)})
    assert parameters(graph, 'bc_policy')['checkpoint'] == str(tmp_path / 'bc.safetensors')
    assert parameters(graph, 'learner')['demos'] == str(tmp_path / 'demonstrations.hdf5')
    graph = build_graph({'run_dir': str(tmp_path), 'bc_checkpoint': '/x/bc', 'demos': 'none'})
    assert parameters(graph, 'bc_policy')['checkpoint'] == '/x/bc'
    assert parameters(graph, 'learner')['demos'] == ''


def test_the_run_is_named_by_its_folder_or_by_the_time(tmp_path):
    assert build_graph({'run_dir': str(tmp_path / 'my-run')}).run_id == 'my-run'
    assert build_graph({'run_dir': str(tmp_path), 'run_id': 'other'}).run_id == 'other'
    fresh = build_graph({})
    assert fresh.run_dir == Path('runs').absolute() / fresh.run_id


@pytest.mark.parametrize('task', ['pipe_assembly', 'kitting'])
def test_what_nobody_said_of_the_learning_is_as_the_task_says(task):
    said = load_task(task).learning
    for given, expected in [
        ({}, (said.preset, said.rollouts, said.online_steps)),
        ({'preset': 'paper', 'rollouts': '7', 'online_steps': '0'}, ('paper', 7, 0)),
    ]:
        graph = build_graph({'task': task, **given})
        learner, manager = parameters(graph, 'learner'), parameters(graph, 'episode_manager')
        assert (learner['preset'], learner['rollouts'], manager['online_steps']) == expected
        assert manager['rollouts'] == learner['rollouts']


@pytest.mark.parametrize(
    ('given', 'where'),
    [
        ({'sim': 'gazebo', 'lockstep': 'true'}, '`lockstep`'),
        ({'sim': 'mock', 'lockstep': 'true'}, '`lockstep`'),
        ({'robot_type': 'ur5e'}, '`robot_type`'),
        ({'robot_type': 'puma'}, '`robot_type`'),
        ({'sim': 'mock', 'robot_type': 'ur5e'}, 'frames.base'),
        ({'sim': 'mock', 'task': 'pipe_assembly_ur5e'}, 'frames.base'),
        ({'sim': 'gazebo', 'task': 'kitting'}, '`scene`'),
        ({'sim': 'isaac'}, '`sim`'),
        ({'policy_mode': 'best'}, '`policy_mode`'),
        ({'weights': '/nowhere'}, '`weights`'),
        ({'policy_mode': 'bc', 'part': 'learner'}, '`part`'),
        ({'policy_mode': 'demonstrate', 'part': 'robot'}, '`part`'),
        ({'policy_mode': 'demonstrate', 'demonstrations': '0'}, '`demonstrations`'),
        ({'policy_mode': 'demonstrate', 'lockstep': 'true', 'teleop': 'gamepad'}, '`lockstep`'),
        ({'sim': 'none', 'lockstep': 'true'}, '`lockstep`'),
        ({'policy_mode': 'demonstrate', 'sim': 'none', 'teleop': 'browser'}, '`teleop`'),
        ({'policy_mode': 'demonstrate', 'sim': 'gazebo', 'teleop': 'browser'}, '`teleop`'),
        ({'teleop': 'browser'}, '`teleop`'),
        (
            {
                'policy_mode': 'demonstrate',
                'teleop': 'browser',
                'command_sink': 'joint_position',
            },
            '`command_sink`',
        ),
        ({'seed': '-1'}, '`seed`'),
        ({'seed': '1.5'}, '`seed`'),
        ({'rollouts': 1}, '`rollouts`'),
        ({'learn': 'perhaps'}, '`learn`'),
        ({'speed': '2'}, '`speed`'),
        ({'namespace': 'two words'}, '`namespace`'),
        ({'run_id': '../up'}, '`run_id`'),
        ({'params_file': '/no/such.yaml'}, '`params_file`'),
        ({'task': 'no_such_task'}, 'no_such_task'),
        ({'preset': 'no_such_preset'}, 'no_such_preset'),
    ],
)
def test_impossible_arguments_are_refused_in_one_line_that_names_them(given, where):
    with pytest.raises(InputError) as caught:
        build_graph(given)
    assert where in caught.value.where and '\n' not in str(caught.value)


CELL = {'robot_state_publisher', 'spawn_active', 'spawn_inactive', 'tip_state'}
TASKS = {'panda': 'pipe_assembly', 'fr3': 'pipe_assembly_fr3', 'ur5e': 'pipe_assembly_ur5e'}


def node_of(graph, name):
    return next(node for node in graph.nodes if node.name == name)


@pytest.mark.parametrize('robot', TASKS)
def test_mock_hardware_starts_a_controller_manager_and_what_it_runs(robot):
    graph = build_graph({'sim': 'mock', 'robot_type': robot, 'task': TASKS[robot]})
    assert names(graph) == (SIMULATED - {'mujoco_arm'}) | CELL | {'controller_manager'}
    manager = node_of(graph, 'controller_manager')
    assert manager.files == (ROBOTS[robot].controllers,) and not manager.named
    assert '__node:=' not in ' '.join(graph.command_line(manager, Path('/p')))
    assert not any(node.parameters.get('use_sim_time') for node in graph.nodes)
    assert not graph.includes and not graph.files
    for name, controllers in (
        ('spawn_active', ROBOTS[robot].active),
        ('spawn_inactive', ROBOTS[robot].inactive),
    ):
        spawner = node_of(graph, name)
        assert spawner.arguments[: len(controllers)] == controllers and spawner.once
        assert ('--inactive' in spawner.arguments) == (name == 'spawn_inactive')


@pytest.mark.parametrize('robot', TASKS)
def test_gazebo_brings_its_own_controller_manager_and_everybodys_clock(robot, tmp_path):
    asked = {'sim': 'gazebo', 'robot_type': robot, 'task': TASKS[robot], 'run_dir': str(tmp_path)}
    graph = build_graph(asked)
    gazebo = {'spawn_robot', 'gazebo_bridge', 'gazebo_scene'}
    assert names(graph) == (SIMULATED - {'mujoco_arm'}) | CELL | gazebo
    assert all(node.parameters['use_sim_time'] for node in graph.nodes if node.managed)
    assert not any(node.parameters.get('lockstep') for node in graph.nodes)
    (include,) = graph.includes
    (world,) = graph.files
    assert (include.package, include.file) == ('ros_gz_sim', 'gz_sim.launch.py')
    assert include.arguments['gz_args'].split()[:2] == ['-r', '-s']
    assert include.arguments['gz_args'].endswith(str(world))
    assert f'<world name="{TASKS[robot]}">' in graph.files[world]
    spawn = node_of(graph, 'spawn_robot').arguments
    assert spawn[:4] == ('-world', TASKS[robot], '-topic', 'robot_description')
    bridged = node_of(graph, 'gazebo_bridge').arguments
    assert '/clock@rosgraph_msgs/msg/Clock[gz.msgs.Clock' in bridged
    description = parameters(graph, 'robot_state_publisher')['robot_description']
    assert 'gz_ros2_control/GazeboSimSystem' in description
    (shown,) = build_graph({**asked, 'headless': 'false'}).includes
    assert '-s' not in shown.arguments['gz_args'].split()
    assert not world.exists(), 'describing a start writes nothing'


def test_a_run_over_two_machines_has_the_same_nodes_between_them():
    robot, learner = (build_graph({'sim': 'none', 'part': part}) for part in ('robot', 'learner'))
    assert names(learner) == {'learner'}
    assert names(robot) | names(learner) == names(build_graph({'sim': 'none'}))
    assert 'learner' in parameters(robot, 'episode_manager')['wait_for']


def test_a_namespaced_gazebo_moves_clock_and_controllers_with_it():
    graph = build_graph({'sim': 'gazebo', 'namespace': 'left'})
    assert all(('/clock', 'clock') in node.remappings for node in graph.nodes)
    description = parameters(graph, 'robot_state_publisher')['robot_description']
    assert '<namespace>left</namespace>' in description


def test_every_argument_takes_its_own_default_as_text():
    typed = parse_arguments({})
    assert parse_arguments({a.name: a.text for a in ARGUMENTS}) == typed
    assert all(a.description and type(typed[a.name]) is type(a.default) for a in ARGUMENTS)


def test_a_namespace_moves_the_clock_with_it():
    graph = build_graph({'namespace': 'left'})
    assert graph.namespace == '/left' == build_graph({'namespace': '/left/'}).namespace
    assert all(('/clock', 'clock') in node.remappings for node in graph.nodes)
    # On the wall clock, and without a namespace, there is nothing to move.
    real = build_graph({'namespace': 'left', 'sim': 'none'})
    assert not any(('/clock', 'clock') in node.remappings for node in real.nodes)
    assert not any(node.remappings for node in build_graph({}).nodes)


@pytest.mark.parametrize('sim', ['none', 'mujoco', 'mock', 'gazebo'])
def test_a_namespace_moves_tf_with_it_for_who_speaks_and_who_listens(sim):
    graph = build_graph({'namespace': 'left', 'sim': sim, 'launch_rviz': True})
    moved = {('/tf', 'tf'), ('/tf_static', 'tf_static')}
    nodes = {node.name: set(node.remappings) for node in graph.nodes}
    concerned = {'arm_interface', 'rviz2', 'robot_state_publisher'} & set(nodes)
    assert len(concerned) == (2 if sim == 'none' else 3)
    assert all(moved <= nodes[name] for name in concerned)


def test_rviz_comes_with_the_frames_only_where_nobody_else_publishes_them():
    simulated = build_graph({'launch_rviz': True})
    assert names(simulated) - SIMULATED == {'rviz2', 'scene_view', 'robot_state_publisher'}
    description = parameters(simulated, 'robot_state_publisher')['robot_description']
    assert '<link name="pipe_tip"' in description
    real = build_graph({'launch_rviz': True, 'sim': 'none'})
    assert names(real) - SIMULATED == {'rviz2', 'scene_view'}
    rviz = next(node for node in real.nodes if node.name == 'rviz2')
    assert Path(rviz.arguments[1]).is_file()
    assert all(node.required == (node.name in SIMULATED) for node in real.nodes)


def test_the_sensor_of_gazebo_weighs_the_tool_and_is_zeroed_at_each_start_pose():
    gazebo = {'sim': 'gazebo', 'robot_type': 'ur5e', 'task': 'pipe_assembly_ur5e'}
    assert parameters(build_graph(gazebo), 'arm_interface')['tare'] == 'measure'
    assert 'tare' not in parameters(build_graph({'sim': 'none'}), 'arm_interface')


def test_the_page_comes_and_goes_without_the_run():
    graph = build_graph({'browser': 'true', 'browser_port': '9001'})
    assert names(graph) - SIMULATED == {'operator_view'}
    view = next(node for node in graph.nodes if node.name == 'operator_view')
    assert view.parameters['port'] == 9001 and not view.required and view.respawn
    assert 'operator_view' not in parameters(graph, 'episode_manager')['wait_for']
    assert ('/clock', 'clock') in build_graph({'browser': True, 'namespace': 'l'}).nodes[
        -1
    ].remappings


def test_use_respawn_false_leaves_dead_nodes_dead():
    given = {'use_respawn': 'false', 'browser': 'true', 'teleop': 'gamepad'}
    assert not any(node.respawn for node in build_graph(given).nodes)


def test_the_command_line_names_node_namespace_files_and_level():
    graph = build_graph({'namespace': 'left', 'log_level': 'warn'})
    node = next(node for node in graph.nodes if node.name == 'q_gate')
    words = graph.command_line(node, Path('/p/q_gate.yaml'))
    assert ' '.join(words) == (
        '--ros-args -r __node:=q_gate -r __ns:=/left -r /clock:=clock '
        f'--params-file {graph.params_file} --params-file /p/q_gate.yaml --log-level warn'
    )


def test_parameter_files_keep_types():
    graph = build_graph({'run_id': '0042', 'namespace': 'left'})
    node = next(node for node in graph.nodes if node.name == 'episode_manager')
    values = yaml.safe_load(graph.parameter_file(node))['/left/episode_manager']['ros__parameters']
    assert values['run_id'] == '0042' and values['seed'] == 0 and values['autostart'] is True
    assert values['evaluation_modes'] == ['BC', 'GATED', 'RL']


def test_the_graph_is_built_without_ros_and_without_torch():
    code = (
        'import sys; from q2rl_bringup.node_graph import build_graph; '
        'build_graph({"launch_rviz": True, "browser": True}); '
        'sys.exit(any(m in sys.modules for m in ("rclpy", "launch", "torch", "mujoco", "viser")))'
    )
    assert subprocess.run([sys.executable, '-c', code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ('sink', 'interface'), [('pose_target', 'pose'), ('joint_position', 'joints')]
)
def test_arm_and_simulation_agree_on_how_the_arm_is_commanded(sink, interface):
    nodes = {node.name: node for node in build_graph({'command_sink': sink}).nodes}
    assert nodes['arm_interface'].parameters['command_sink'] == sink
    assert nodes['mujoco_arm'].parameters['command_interface'] == interface
    described = nodes['arm_interface'].parameters.get('robot_description', '')
    assert ('panda_joint7' in described) == (interface == 'joints')


def test_the_simulation_takes_no_twists_and_a_real_arm_brings_its_own_description():
    with pytest.raises(InputError, match='command_sink'):
        build_graph({'command_sink': 'servo_twist'})
    for sink in ('servo_twist', 'joint_position'):
        nodes = {n.name: n for n in build_graph({'command_sink': sink, 'sim': 'none'}).nodes}
        assert nodes['arm_interface'].parameters['command_sink'] == sink
        assert 'robot_description' not in nodes['arm_interface'].parameters


def test_a_device_of_a_person_is_there_when_asked_for_and_ends_nothing():
    assert 'teleop' not in {node.name for node in build_graph({}).nodes}
    nodes = {node.name: node for node in build_graph({'teleop': 'gamepad'}).nodes}
    assert nodes['teleop'].parameters['device'] == 'gamepad' and not nodes['teleop'].required


def test_beside_a_real_arm_tip_state_starts_with_its_description_unless_the_pose_is_elsewhere(
    tmp_path,
):
    urdf, params = tmp_path / 'arm.urdf', tmp_path / 'params.yaml'
    urdf.write_text('<robot name="arm"/>')
    graph = build_graph({'sim': 'none', 'description_file': str(urdf)})
    assert names(graph) == SIMULATED - {'mujoco_arm'} | {'tip_state'}
    assert parameters(graph, 'tip_state')['robot_description'] == str(urdf)
    assert 'tip_state' in parameters(graph, 'episode_manager')['wait_for']
    for said in ('pose_source: joints', 'pose_topic: tcp'):
        params.write_text(f'/**/arm_interface: {{ros__parameters: {{{said}}}}}\n')
        given = {'sim': 'none', 'description_file': str(urdf), 'params_file': str(params)}
        assert 'tip_state' not in names(build_graph(given))
    assert 'tip_state' not in names(build_graph({'description_file': str(urdf)}))
    for said, problem in (
        ('a: [', 'is not valid YAML'),
        ('arm_interface: 3', 'arm_interface.*is not a mapping'),
        ('arm_interface: {ros__parameters: [pose_source]}', 'arm_interface.*is not a mapping'),
    ):
        params.write_text(said)
        with pytest.raises(InputError, match=problem):
            build_graph({'sim': 'none', 'description_file': str(urdf), 'params_file': str(params)})


def test_a_bolted_fixture_has_its_scene_where_there_is_no_simulation():
    graph = build_graph({'sim': 'none', 'scene': 'fixed'})
    assert names(graph) == SIMULATED - {'mujoco_arm'} | {'fixed_scene'}
    assert 'fixed_scene' in parameters(graph, 'episode_manager')['wait_for']
    with pytest.raises(InputError, match='`scene`'):
        build_graph({'scene': 'fixed'})
    learner = build_graph({'sim': 'none', 'scene': 'fixed', 'part': 'learner'})
    assert names(learner) == {'learner'}
