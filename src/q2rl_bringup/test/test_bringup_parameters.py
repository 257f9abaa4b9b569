# SPDX-License-Identifier: Apache-2.0
"""The graph and the shipped parameter file against the parameters that the nodes really declare."""

import importlib
import inspect

import pytest
import rclpy
import yaml

from q2rl_bringup.node_graph import build_graph
from q2rl_lab.ros_environment import Domain
from q2rl_ros.node import Q2rlNode

GIVEN = {
    'run_dir': '/tmp/q2rl-run',
    'run_id': '0042',
    'seed': '7',
    'policy_mode': 'rl',
    'launch_rviz': 'true',
    'browser': 'true',
    'teleop': 'spacenav',
}
OF_RCLPY = {'use_sim_time', 'start_type_description_service'}
MANAGED = [node for node in build_graph(GIVEN).nodes if node.managed]
OF_DEMONSTRATIONS = [
    node
    for node in build_graph({**GIVEN, 'policy_mode': 'demonstrate'}).nodes
    if node.name in ('demonstration_recorder', 'episode_manager')
]
WITHOUT_LEARNER = [
    node
    for node in build_graph({**GIVEN, 'policy_mode': 'bc'}).nodes
    if node.name == 'transition_recorder'
]
OF_GAZEBO = [
    node
    for node in build_graph({'sim': 'gazebo'}).nodes
    if node.name in ('tip_state', 'gazebo_scene')
]
OF_A_REAL_CELL = [
    node
    for node in build_graph({'sim': 'none', 'scene': 'fixed'}).nodes
    if node.name == 'fixed_scene'
]


@pytest.fixture(scope='module', autouse=True)
def domain():
    held = Domain()
    yield held
    held.release()


def make_node(spec, domain, *arguments):
    """Return an unconfigured node, of the module that its executable runs, given these command line arguments."""
    module = importlib.import_module(f'{spec.package}.{spec.executable}_node')
    kinds = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Q2rlNode) and kind.__module__ == module.__name__
    ]
    assert len(kinds) == 1 and callable(module.main)
    context = rclpy.Context()
    rclpy.init(args=list(arguments), context=context, domain_id=domain.number)
    return kinds[0](context=context)


def declared(spec, domain, *arguments):
    """Return a node's parameters with their values."""
    node = make_node(spec, domain, *arguments)
    try:
        return {name: parameter.value for name, parameter in node._parameters.items()}
    finally:
        context = node.context
        node.destroy_node()
        context.shutdown()


def shipped(name):
    graph = build_graph({})
    sections = yaml.safe_load(graph.params_file.read_text())
    own, common = (sections.get(key, {'ros__parameters': {}}) for key in (f'/**/{name}', '/**'))
    return common['ros__parameters'] | own['ros__parameters']


@pytest.mark.parametrize(
    'spec',
    [*MANAGED, *OF_GAZEBO, *OF_A_REAL_CELL, *OF_DEMONSTRATIONS, *WITHOUT_LEARNER],
    ids=lambda spec: spec.name,
)
def test_the_graph_sets_only_declared_parameters_and_in_their_types(spec, domain):
    defaults = declared(spec, domain)
    for name, value in spec.parameters.items():
        assert name in defaults, f'{spec.name} does not declare {name}'
        kind = list if isinstance(value, tuple) else type(value)
        assert kind is type(defaults[name]), f'{spec.name}.{name}'


@pytest.mark.parametrize(
    'spec',
    [*MANAGED, *OF_GAZEBO, *OF_A_REAL_CELL, *OF_DEMONSTRATIONS, *WITHOUT_LEARNER],
    ids=lambda spec: spec.name,
)
def test_the_shipped_file_spells_out_every_other_parameter_with_its_default(spec, domain):
    defaults = declared(spec, domain)
    for name in {*spec.parameters, *OF_RCLPY}:
        defaults.pop(name, None)
    assert shipped(spec.name) == defaults


@pytest.mark.parametrize('namespace', ['', 'left'])
@pytest.mark.parametrize('name', [spec.name for spec in MANAGED])
def test_a_node_started_by_the_command_line_has_the_parameters_of_the_graph(
    name, namespace, domain, tmp_path
):
    """Also when the user's file says otherwise, for all nodes and for this one."""
    contrary = '{ros__parameters: {robot: other, task: other, seed: 99}}'
    users = tmp_path / 'users.yaml'
    users.write_text(f'/**: {contrary}\n/**/{name}: {contrary}\n')
    graph = build_graph({**GIVEN, 'namespace': namespace, 'params_file': str(users)})
    spec = next(node for node in graph.nodes if node.name == name)
    file = tmp_path / f'{name}.yaml'
    file.write_text(graph.parameter_file(spec))
    values = declared(spec, domain, *graph.command_line(spec, file))
    for parameter, value in spec.parameters.items():
        assert values[parameter] == (list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize('namespace', ['', 'left'])
def test_the_shipped_file_reaches_the_nodes_in_any_namespace(namespace, domain, tmp_path):
    graph = build_graph({'namespace': namespace})
    text = graph.params_file.read_text()
    assert 'patience: 3' in text
    changed = tmp_path / 'my.params.yaml'
    changed.write_text(text.replace('patience: 3', 'patience: 5'))
    graph = build_graph({'namespace': namespace, 'params_file': str(changed)})
    spec = next(node for node in graph.nodes if node.name == 'q_gate')
    file = tmp_path / 'q_gate.yaml'
    file.write_text(graph.parameter_file(spec))
    assert declared(spec, domain, *graph.command_line(spec, file))['patience'] == 5


def test_a_namespaced_arm_hears_the_tf_of_its_namespace(domain, tmp_path):
    graph = build_graph({'namespace': 'left', 'sim': 'none'})
    spec = next(node for node in graph.nodes if node.name == 'arm_interface')
    file = tmp_path / 'arm_interface.yaml'
    file.write_text(graph.parameter_file(spec))
    node = make_node(spec, domain, *graph.command_line(spec, file))
    try:
        heard = [node.resolve_topic_name(name) for name in ('/tf', '/tf_static')]
        assert heard == ['/left/tf', '/left/tf_static']
    finally:
        context = node.context
        node.destroy_node()
        context.shutdown()


def test_a_namespaced_simulation_keeps_its_clock_to_itself(domain, tmp_path):
    """A node in a namespace must listen to the clock of its own simulation, not to /clock."""
    graph = build_graph({**GIVEN, 'namespace': 'left'})
    spec = next(node for node in graph.nodes if node.name == 'q_gate')
    file = tmp_path / 'q_gate.yaml'
    file.write_text(graph.parameter_file(spec))
    node = make_node(spec, domain, *graph.command_line(spec, file))
    try:
        assert node.get_fully_qualified_name() == '/left/q_gate'
        topics = {subscription.topic_name for subscription in node.subscriptions}
        assert '/left/clock' in topics and '/clock' not in topics
    finally:
        context = node.context
        node.destroy_node()
        context.shutdown()
