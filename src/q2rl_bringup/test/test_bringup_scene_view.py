# SPDX-License-Identifier: Apache-2.0
"""What RViz shows: the markers, and that the shipped configuration listens to topics that exist."""

from dataclasses import replace
from pathlib import Path
import time
import xml.etree.ElementTree as ElementTree

from geometry_msgs.msg import PoseStamped
import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker, MarkerArray
import yaml

from q2rl_bringup.node_graph import build_graph
from q2rl_bringup.robots import ROBOTS
from q2rl_bringup.scene_markers import believed_fixture, decision_markers, scene_markers
from q2rl_bringup.scene_view_node import SceneView
from q2rl_bringup.share import share_path
from q2rl_control.arm_interface_node import ArmInterface
from q2rl_lab.ros_environment import Domain
from q2rl_msgs.msg import GateDecision, Observation
from q2rl_ros.conversions import decision_to_msg, observation_to_msg, pose_to_msg
from q2rl_ros.qos import profiles
from q2rl_ros.spin import make_executor
from q2rl_sim.mujoco_arm_node import MujocoArmNode
import q2rl_task
from q2rl_task import (
    Decision,
    Measurement,
    Mode,
    ObservationBuilder,
    ObservationRecord,
    Pose,
    Reason,
    Source,
    load_task,
)

TASKS = sorted(path.stem for path in Path(q2rl_task.__file__).parent.glob('tasks/*.yaml'))
TYPES = {
    'rviz_default_plugins/Pose': 'geometry_msgs/msg/PoseStamped',
    'rviz_default_plugins/Wrench': 'geometry_msgs/msg/WrenchStamped',
    'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
}
TIP = Pose.from_rotation([0.51, 0.01, 0.17], Rotation.from_rotvec([3.1, 0.02, -0.03]))
FIXTURE = Pose.from_rotation([0.503, -0.004, 0.151], Rotation.from_rotvec([3.12, 0.01, 0.05]))


@pytest.fixture(scope='module')
def task():
    return load_task('pipe_assembly')


@pytest.fixture(scope='module', autouse=True)
def ros():
    domain = Domain()
    rclpy.init(args=[], domain_id=domain.number)
    yield
    rclpy.shutdown()
    domain.release()


def observe(task, episode='run-e0001', step=0, stamp=1.5):
    measurement = Measurement(stamp, np.zeros(7), np.zeros(7), TIP, np.zeros(6), np.zeros(6), False)
    vector = ObservationBuilder(task).build(measurement, TIP, FIXTURE)
    return ObservationRecord(stamp, task.contract_hash, episode, step, Mode.GATED, False, vector)


def decision(**changes):
    bc, rl = np.array([0, 0, 1, 0, 0, 0], np.float32), np.array([1, 0, 0, 0, 0, 0], np.float32)
    chosen = Decision(
        Source.RL, Reason.RL_HIGHER, rl, q_bc=-9.0, q_rl=-7.5, bc_action=bc, rl_action=rl
    )
    return replace(chosen, **changes)


def arrows(markers):
    return {m.ns for m in markers.markers if m.type == Marker.ARROW and m.action == Marker.ADD}


def by_namespace(markers):
    return {marker.ns: marker for marker in markers.markers}


def test_the_believed_fixture_is_the_one_the_observation_was_built_with(task):
    believed = believed_fixture(task, TIP, observe(task))
    metres, radians = believed.distance_to(FIXTURE)
    assert metres < 1e-6 and radians < 1e-6


def test_with_a_history_the_newest_frame_counts(task):
    longer = task.model_copy(
        update={'observation': task.observation.model_copy(update={'history': 3})}
    )
    record = observe(task)
    stacked = np.concatenate([np.full(2 * task.frame_size, 7.0), record.observation])
    believed = believed_fixture(longer, TIP, replace(record, observation=stacked))
    assert believed.distance_to(FIXTURE)[0] < 1e-6


def test_a_task_that_hides_the_tip_shows_no_fixture(task):
    fields = tuple(f for f in task.observation.fields if f.name != 'tip_rotation')
    blind = task.model_copy(
        update={'observation': task.observation.model_copy(update={'fields': fields})}
    )
    record = replace(observe(task), observation=np.zeros(task.observation_size - 3, np.float32))
    assert believed_fixture(blind, TIP, record) is None


def test_the_workspace_box_spans_the_limits_of_the_task(task):
    box = by_namespace(scene_markers(task, None))['workspace']
    middle, size = box.pose.position, box.scale
    limits = task.limits.workspace
    low = [middle.x - size.x / 2, middle.y - size.y / 2, middle.z - size.z / 2]
    np.testing.assert_allclose(low, limits.low)
    np.testing.assert_allclose([size.x, size.y, size.z], np.subtract(limits.high, limits.low))
    assert box.header.frame_id == task.frames.base and box.header.stamp.sec == 0


def test_each_policy_has_its_arrow_and_the_chosen_one_is_opaque(task):
    markers = by_namespace(decision_markers(task, TIP, FIXTURE, decision(), 10.0))
    tip, head = ([p.x, p.y, p.z] for p in markers['RL'].points)
    np.testing.assert_allclose(tip, TIP.position)
    along_x = FIXTURE.rotation.apply([10.0 * task.action.translation_m, 0.0, 0.0])
    np.testing.assert_allclose(np.subtract(head, tip), along_x, atol=1e-9)
    assert markers['RL'].color.a == 1.0 > markers['BC'].color.a
    assert markers['gate'].text == 'RL (rl_higher)  Q_RL -7.50  Q_BC -9.00'


def test_a_policy_that_proposed_nothing_has_no_arrow(task):
    silent = decision(rl_action=np.zeros(0, np.float32), source=Source.BC)
    markers = by_namespace(decision_markers(task, TIP, FIXTURE, silent, 10.0))
    assert markers['RL'].action == Marker.DELETE and markers['BC'].action == Marker.ADD


@pytest.fixture
def view(task):
    """The node beside a listener and a cell that publishes to it; `until` spins them, at most 10 s."""
    node = SceneView(parameter_overrides=[Parameter('lockstep', value=True)])
    assert node.start() == 0
    peer = rclpy.create_node('peer')
    qos = profiles(True, task.period_s)
    peer.heard = {f'scene_view/{name}': [] for name in ('scene', 'gate', 'run', 'fixture_estimate')}
    for topic, kind, profile in (
        ('scene_view/scene', MarkerArray, qos.latched),
        ('scene_view/gate', MarkerArray, qos.events),
        ('scene_view/run', MarkerArray, qos.latched),
        ('scene_view/fixture_estimate', PoseStamped, qos.latched),
    ):
        peer.create_subscription(kind, topic, peer.heard[topic].append, profile)
    peer.pose = peer.create_publisher(PoseStamped, 'current_pose', qos.sensors)
    peer.observation = peer.create_publisher(Observation, 'observation', qos.tick)
    peer.decision = peer.create_publisher(GateDecision, 'gate_decision', qos.tick)
    executor = make_executor()
    executor.add_node(node)
    executor.add_node(peer)

    def until(condition, repeat=lambda: None):
        end = time.monotonic() + 10.0
        while not condition() and time.monotonic() < end:
            repeat()
            executor.spin_once(timeout_sec=0.02)
        assert condition()

    peer.until = until
    until(
        lambda: all(
            p.get_subscription_count() for p in (peer.pose, peer.observation, peer.decision)
        )
    )
    yield peer
    node.close()
    for each in (node, peer):
        executor.remove_node(each)
        each.destroy_node()
    executor.shutdown()


def test_the_node_shows_workspace_fixture_and_gate(task, view):
    heard = view.heard
    view.until(lambda: heard['scene_view/scene'])
    assert set(by_namespace(heard['scene_view/scene'][0])) == {'workspace'}
    record = observe(task)

    def tick():
        view.pose.publish(pose_to_msg(TIP, task.frames.base, record.stamp))
        view.observation.publish(observation_to_msg(record, task.frames.fixture))
        view.decision.publish(decision_to_msg(decision(), record))

    view.until(lambda: any('RL' in arrows(m) for m in heard['scene_view/gate']), tick)
    assert set(by_namespace(heard['scene_view/gate'][-1])) == {'BC', 'RL', 'gate', 'force'}
    view.until(lambda: heard['scene_view/fixture_estimate'], tick)
    estimate = heard['scene_view/fixture_estimate'][-1].pose.position
    np.testing.assert_allclose([estimate.x, estimate.y, estimate.z], FIXTURE.position, atol=1e-6)
    view.until(lambda: set(by_namespace(heard['scene_view/scene'][-1])) == {'workspace', 'fixture'})
    assert 'no word from the arm' in by_namespace(heard['scene_view/run'][-1])['run'].text


def test_an_observation_of_another_instant_moves_no_fixture(task, view):
    heard = view.heard
    moving = observe(task, step=5, stamp=1.6)
    joined = observe(task, step=6, stamp=1.5)

    def pose_then(record):
        view.pose.publish(pose_to_msg(TIP, task.frames.base, 1.5))
        view.observation.publish(observation_to_msg(record, task.frames.fixture))

    for _ in range(5):
        pose_then(moving)
    # What comes after the same stamp shows that the earlier ones were heard and left out.
    view.until(lambda: heard['scene_view/fixture_estimate'], lambda: pose_then(joined))
    assert {m.header.stamp.nanosec for m in heard['scene_view/fixture_estimate']} == {500_000_000}


def displays():
    config = yaml.safe_load(share_path('rviz/pipe_assembly.rviz').read_text())
    return config['Visualization Manager']


def test_the_shipped_rviz_configuration_shows_what_it_should(task):
    shown = displays()
    assert shown['Global Options']['Fixed Frame'] == task.frames.base
    kinds = [display['Class'].split('/')[1] for display in shown['Displays']]
    assert {'RobotModel', 'TF', 'MarkerArray', 'Pose', 'Wrench'} <= set(kinds)
    frames = next(d for d in shown['Displays'] if d['Class'].endswith('/TF'))['Frames']
    assert {task.frames.base, task.frames.tip} <= set(frames)


@pytest.mark.parametrize('name', TASKS)
def test_rviz_stands_on_the_base_of_the_tasks_own_arm(name):
    """On a frame that no one publishes it shows nothing."""
    base = load_task(name).frames.base
    arm = next(robot for robot in ROBOTS.values() if robot.base == base).name
    sim = {'sim': 'mujoco'} if arm == 'panda' else {'sim': 'mock', 'robot_type': arm}
    graph = build_graph({'task': name, 'launch_rviz': True, **sim})
    nodes = {node.name: node for node in graph.nodes}
    told = nodes['rviz2'].arguments
    assert told[told.index('-f') + 1] == base
    described = nodes['robot_state_publisher'].parameters['robot_description']
    assert base in {link.get('name') for link in ElementTree.fromstring(described).iter('link')}


def test_an_rviz_configuration_of_ones_own_keeps_its_frame(tmp_path):
    own = tmp_path / 'own.rviz'
    own.touch()
    graph = build_graph({'launch_rviz': True, 'rviz_config_file': str(own)})
    rviz = next(node for node in graph.nodes if node.name == 'rviz2')
    assert rviz.arguments == ('-d', str(own))


def test_every_topic_of_the_rviz_configuration_is_published_and_compatible():
    nodes = [SceneView(), ArmInterface(), MujocoArmNode()]
    published = {}
    try:
        for node in nodes:
            node.trigger_configure()
            for publisher in node.publishers:
                kind = publisher.msg_type
                name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
                published[publisher.topic_name] = (name, publisher.qos_profile)
    finally:
        for node in nodes:
            node.close()
            node.destroy_node()
    checked = 0
    for display in displays()['Displays']:
        if display['Class'] not in TYPES:
            continue
        topic = display['Topic']
        assert not topic['Value'].startswith('/')
        name, qos = published[f'/{topic["Value"]}']
        assert name == TYPES[display['Class']]
        if topic['Durability Policy'] == 'Transient Local':
            assert qos.durability.name == 'TRANSIENT_LOCAL'
        if topic['Reliability Policy'] == 'Reliable':
            assert qos.reliability.name == 'RELIABLE'
        checked += 1
    assert checked == 7
