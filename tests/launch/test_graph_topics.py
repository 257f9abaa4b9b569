# SPDX-License-Identifier: Apache-2.0
"""The configured nodes of the graph fit together: every topic heard is spoken, every service called is served."""

import importlib
import inspect
from pathlib import Path
import re

import pytest
import rclpy
from rclpy.qos import QoSCompatibility, qos_check_compatible

from q2rl_bringup.node_graph import build_graph
from q2rl_lab.ros_environment import Domain
from q2rl_learner.bc_training import make_bc
from q2rl_learner.config import BCConfig
from q2rl_policies.networks_file import save
from q2rl_ros.node import Q2rlNode
from q2rl_ros.sensors import SENSOR_TOPICS
from q2rl_ros.testing import free_port
from q2rl_task import load_task

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'architecture.md'
OF_ROS = {'/parameter_events', '/rosout', '/diagnostics'}
FROM_PEOPLE = {'emergency_stop', 'hold', 'episode_label', 'human_action', 'joy', 'twist'}
FOR_PEOPLE = {
    '/scene_view/scene',
    '/scene_view/gate',
    '/scene_view/run',
    '/scene_view/fixture_estimate',
    '/true_poses',
}


def type_name(kind):
    package, group = kind.__module__.split('.')[:2]
    return f'{package}/{group}/{kind.__name__}'


class Cell:
    """What the configured nodes of a graph speak, hear, serve and call: {name: [(node, type, qos)]}."""

    def __init__(self, arguments, domain, folder):
        self.published, self.heard, self.served, self.called = {}, {}, {}, {}
        graph = build_graph(arguments)
        for spec in graph.nodes:
            if spec.managed:
                file = folder / f'{spec.name}.yaml'
                file.write_text(graph.parameter_file(spec))
                self._look_at(spec, graph.command_line(spec, file), domain)

    def _look_at(self, spec, arguments, domain):
        module = importlib.import_module(f'{spec.package}.{spec.executable}_node')
        kind = next(
            k
            for _, k in inspect.getmembers(module, inspect.isclass)
            if issubclass(k, Q2rlNode) and k.__module__ == module.__name__
        )
        context = rclpy.Context()
        rclpy.init(args=list(arguments), context=context, domain_id=domain.number)
        node = kind(context=context)
        try:
            node.on_configure(None)
            assert node.exit_code == 0
            for found, entities in (
                (self.published, node.publishers),
                (self.heard, node.subscriptions),
            ):
                for each in entities:
                    row = (spec.name, type_name(each.msg_type), each.qos_profile)
                    found.setdefault(each.topic_name, []).append(row)
            for found, entities in ((self.served, node.services), (self.called, node.clients)):
                for each in entities:
                    name = each.service_name if hasattr(each, 'service_name') else each.srv_name
                    name = (
                        name
                        if name.startswith('/')
                        else f'{node.get_namespace().rstrip("/")}/{name}'
                    )
                    found.setdefault(name, []).append((spec.name, type_name(each.srv_type)))
        finally:
            node.on_shutdown(None)
            node.destroy_node()
            context.shutdown()


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
    """A run folder with an untrained BC policy."""
    folder = tmp_path_factory.mktemp('run')
    task = load_task('pipe_assembly')
    net = make_bc(BCConfig(), task.observation_size, task.action_size)
    meta = {
        'contract': task.contract_hash,
        'task': task.name,
        'version': 1,
        'parent': 0,
        'architecture': net.architecture,
    }
    save(folder / 'bc.safetensors', 'bc', net.state_dict(), meta)
    return folder


@pytest.fixture(scope='module')
def make_cell(run_dir, tmp_path_factory):
    domain = Domain()
    made = {}

    def make(**arguments):
        key = tuple(sorted(arguments.items()))
        if key not in made:
            given = {
                'run_dir': str(run_dir),
                'demos': 'none',
                'launch_rviz': 'true',
                'browser': 'true',
                'browser_port': free_port(),
                **arguments,
            }
            made[key] = Cell(given, domain, tmp_path_factory.mktemp('parameters'))
        return made[key]

    yield make
    domain.release()


STARTS = [
    {'sim': 'mujoco'},
    {'sim': 'mujoco', 'lockstep': 'false'},
    {'sim': 'none'},
    {'namespace': 'left'},
    {'sim': 'mujoco', 'command_sink': 'joint_position', 'teleop': 'spacenav'},
    {'sim': 'mujoco', 'policy_mode': 'demonstrate', 'teleop': 'browser'},
    {'sim': 'mujoco', 'policy_mode': 'demonstrate', 'lockstep': 'true'},
    {'sim': 'none', 'policy_mode': 'demonstrate', 'teleop': 'gamepad'},
]
ABSENT = {'/gate_decision', '/learner_status'}
"""What nobody says where a person demonstrates."""


@pytest.mark.parametrize('start', STARTS, ids=str)
def test_every_topic_that_is_heard_is_spoken_in_one_type_and_compatible_quality(make_cell, start):
    cell = make_cell(**start)
    outside = {f'/{name}' for name in SENSOR_TOPICS} if start.get('sim') == 'none' else set()
    outside |= ABSENT if start.get('policy_mode') == 'demonstrate' else set()
    for topic, listeners in cell.heard.items():
        if topic in OF_ROS | outside or topic.split('/')[-1] in FROM_PEOPLE:
            continue
        speakers = cell.published.get(topic, [])
        assert speakers, f'{topic}, heard by {listeners[0][0]}, has no publisher'
        for node, kind, qos in listeners:
            for speaker, spoken, offered in speakers:
                assert spoken == kind, f'{topic}: {speaker} speaks {spoken}, {node} hears {kind}'
                verdict, reason = qos_check_compatible(offered, qos)
                assert verdict != QoSCompatibility.ERROR, f'{topic}, {speaker} to {node}: {reason}'


def test_every_topic_that_is_spoken_is_heard_or_for_people(make_cell):
    cell = make_cell(sim='mujoco')
    unheard = {
        t
        for t in set(cell.published) - set(cell.heard) - OF_ROS - FOR_PEOPLE
        if not t.endswith('/transition_event')
    }
    assert not unheard


def test_in_a_namespace_nothing_of_the_cell_is_outside_it(make_cell):
    cell = make_cell(namespace='left')
    outside = {t for t in {*cell.published, *cell.heard} - OF_ROS if not t.startswith('/left/')}
    assert not outside


@pytest.mark.parametrize(
    'start',
    [{'sim': 'mujoco'}, {'namespace': 'left'}, STARTS[-2]],
    ids=str,
)
def test_every_service_that_is_called_is_served_in_the_same_type(make_cell, start):
    cell = make_cell(**start)
    assert cell.called
    for name, callers in cell.called.items():
        served = {kind for _, kind in cell.served.get(name, [])}
        assert served == {kind for _, kind in callers}, name


def documented():
    """Return the rows of the topic table of the documentation: {topic: (type, from, to)}."""
    rows = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('| `') and len(cells) == 5 and '/' in cells[1]:
            kind = '/msg/'.join(cells[1].strip('`').split('/'))
            speakers, listeners = (set(re.findall(r'`(\w+)`', cell)) for cell in cells[2:4])
            for topic in re.findall(r'`([\w/]+)`', cells[0]):
                rows[f'/{topic}'] = (kind, speakers, listeners)
    return rows


def test_the_documented_topics_are_the_real_ones(make_cell):
    cell = make_cell(sim='mujoco')
    real = {}
    for topic in {*cell.published, *cell.heard} - OF_ROS:
        if topic.endswith('/transition_event'):
            continue
        rows = cell.published.get(topic, []) + cell.heard.get(topic, [])
        speakers, listeners = (
            {row[0] for row in side.get(topic, [])} for side in (cell.published, cell.heard)
        )
        if topic == '/clock':
            listeners = set()  # every node's clock
        real[topic] = (rows[0][1], speakers, listeners)
    assert documented() == real
