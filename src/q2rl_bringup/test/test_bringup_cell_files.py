# SPDX-License-Identifier: Apache-2.0
"""Every file of a robot cell agrees with the others: descriptions, controllers, MoveIt, Servo, the task."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest
import yaml

from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import HARDWARE, ROBOTS
from q2rl_task import load_task

TASKS = {
    'panda': load_task('pipe_assembly'),
    'fr3': load_task('pipe_assembly_fr3'),
    'ur5e': load_task('pipe_assembly_ur5e'),
}
STATE_FOLLOWS = {
    'mock': 'mock_components/GenericSystem',
    'gazebo': 'gz_ros2_control/GazeboSimSystem',
}
HERE = [kind for kind in HARDWARE if kind != 'vendor']
PAIRS = [(name, kind) for name in ROBOTS for kind in HERE]
CONFIG = Path(__file__).parents[1] / 'config'
EXTRA = CONFIG / 'drivers' / 'ur5e_extra_controllers.yaml'


@cache
def urdf_of(name, hardware='none'):
    return robot_urdf(TASKS[name], ROBOTS[name], hardware)


def described(name, hardware='none'):
    return ElementTree.fromstring(urdf_of(name, hardware))


def without_meshes(robot):
    for link in robot.iter('link'):
        for part in (*link.findall('visual'), *link.findall('collision')):
            if part.find('geometry/mesh') is not None:
                link.remove(part)
    options = {'fusestatic': 'false', 'discardvisual': 'true'}
    ElementTree.SubElement(ElementTree.SubElement(robot, 'mujoco'), 'compiler', options)
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(robot, encoding='unicode'))


def controllers(name, file=None):
    sections = yaml.safe_load((file or ROBOTS[name].controllers).read_text())
    return {key.removeprefix('/**/'): value['ros__parameters'] for key, value in sections.items()}


def moveit(name, file):
    return yaml.safe_load((ROBOTS[name].moveit / file).read_text())


def semantics(name):
    return ElementTree.parse(ROBOTS[name].moveit / f'pipe_{name}.srdf').getroot()


@pytest.mark.parametrize(('name', 'hardware'), PAIRS)
def test_the_description_is_one_tree_from_base_to_tip_with_bodies_that_can_be(name, hardware):
    robot, task = described(name, hardware), TASKS[name]
    parents = {
        j.find('child').get('link'): j.find('parent').get('link') for j in robot.findall('joint')
    }
    links = {link.get('name') for link in robot.findall('link')}
    in_world = hardware == 'gazebo' or name == 'ur5e'
    assert links - set(parents) == {'world' if in_world else task.frames.base}
    at = task.frames.tip
    while at != task.frames.base:
        at = parents[at]
    # Without balancing: an impossible inertia is an error here, as it is in Gazebo.
    model = without_meshes(robot)
    assert [model.joint(k).name for k in range(model.njnt)] == list(ROBOTS[name].joints)


@pytest.mark.parametrize(('name', 'hardware'), PAIRS)
def test_ros2_control_drives_the_arms_joints_by_the_hardware_asked_for(name, hardware):
    robot = described(name, hardware)
    system = robot.find('ros2_control')
    if hardware == 'none':
        assert system is None and robot.find('gazebo') is None
        return
    assert system.find('hardware/plugin').text == STATE_FOLLOWS[hardware]
    assert [j.get('name') for j in system.findall('joint')] == list(ROBOTS[name].joints)
    limits = {j.get('name'): j.find('limit') for j in robot.findall('joint')}
    for joint in system.findall('joint'):
        assert 'position' in {i.get('name') for i in joint.findall('command_interface')}
        assert {'position', 'velocity'} <= {i.get('name') for i in joint.findall('state_interface')}
        home = float(joint.find("state_interface[@name='position']/param").text)
        limit = limits[joint.get('name')]
        assert float(limit.get('lower')) < home < float(limit.get('upper'))
    plugin = robot.find('gazebo/plugin')
    assert (plugin is not None) == (hardware == 'gazebo')
    if plugin is not None:
        assert Path(plugin.find('parameters').text) == ROBOTS[name].controllers


@pytest.mark.parametrize('hardware', ['mock', 'gazebo'])
@pytest.mark.parametrize(
    'task', ['pipe_assembly', 'pipe_assembly_fr3', 'pipe_assembly_ur5e', 'kitting']
)
def test_no_joint_takes_efforts_in_gazebo_which_would_not_follow_its_positions_then(task, hardware):
    task = load_task(task)
    robot = next(robot for robot in ROBOTS.values() if robot.base == task.frames.base)
    system = ElementTree.fromstring(robot_urdf(task, robot, hardware)).find('ros2_control')
    taken = {
        joint.get('name'): {i.get('name') for i in joint.findall('command_interface')}
        for joint in system.findall('joint')
    }
    assert all('position' in interfaces for interfaces in taken.values())
    efforts = {name for name, interfaces in taken.items() if 'effort' in interfaces}
    franka = robot.name != 'ur5e'
    assert efforts == (set(robot.joints) if franka and hardware == 'mock' else set())


@pytest.mark.parametrize('name', ROBOTS)
def test_the_arm_starts_with_the_tip_over_the_workspace(name):
    robot, task = described(name, 'mock'), TASKS[name]
    model = without_meshes(robot)
    data = mujoco.MjData(model)
    for joint in robot.iter('joint'):
        param = joint.find("state_interface[@name='position']/param")
        if param is not None:
            data.joint(joint.get('name')).qpos = float(param.text)
    mujoco.mj_kinematics(model, data)
    tip = data.body(task.frames.tip)
    assert tip.xmat.reshape(3, 3)[2, 2] < -0.999, 'the pipe does not point down'
    low, high = task.limits.workspace.low, task.limits.workspace.high
    if (
        name == 'ur5e'
    ):  # the Panda's ready pose is above its workspace, and its way in is the reset's
        assert all(low[k] < tip.xpos[k] < high[k] for k in range(3))
    assert tip.xpos[2] > task.fixture.nominal.position[2]


@pytest.mark.parametrize('name', ROBOTS)
def test_the_pipe_is_held_by_the_arm_and_as_long_in_both(name):
    robot = described(name)
    joint = next(j for j in robot.findall('joint') if j.get('name') == 'pipe_tip_joint')
    assert joint.find('parent').get('link') == 'pipe'
    assert float(joint.find('origin').get('xyz').split()[2]) == 0.09


def test_the_ur5e_has_the_published_reach():
    model = without_meshes(described('ur5e'))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    # All joints at zero: stretched along -x (the vendor's zero), flange at a2 + a3, d4 + d6, d1 - d5.
    expected = [-(0.425 + 0.3922), -(0.1333 + 0.0996), 0.1625 - 0.0997]
    np.testing.assert_allclose(data.body('tool0').xpos * [-1, -1, 1], expected, atol=1e-6)


def test_the_tasks_differ_by_name_and_base_frame_only():
    contents = [task.model_dump() for task in TASKS.values()]
    for content in contents:
        content.pop('name'), content.pop('description'), content['frames'].pop('base')
    assert all(content == contents[0] for content in contents)


def test_the_fr3_moves_as_the_panda_does_within_limits_of_its_own():
    ours, theirs = (without_meshes(described(name)) for name in ('fr3', 'panda'))
    rng, states = np.random.default_rng(0), (mujoco.MjData(ours), mujoco.MjData(theirs))
    for _ in range(10):
        angles = rng.uniform(-2.0, 2.0, 7)
        for model, data in zip((ours, theirs), states, strict=True):
            data.qpos[:] = angles
            mujoco.mj_kinematics(model, data)
        tips = [data.body('pipe_tip') for data in states]
        np.testing.assert_allclose(tips[0].xpos, tips[1].xpos, atol=1e-9)
        np.testing.assert_allclose(tips[0].xmat, tips[1].xmat, atol=1e-9)
    assert not np.allclose(ours.jnt_range, theirs.jnt_range)
    np.testing.assert_allclose(ours.joint('fr3_joint4').range, [-3.0421, -0.1518])
    assert 'panda_' not in re.sub(r'filename="[^"]*"', '', urdf_of('fr3', 'mock'))


def test_an_fr3_with_a_gripper_has_its_hand_frame():
    kitting = load_task('kitting')
    frames = kitting.frames.model_copy(
        update={'base': 'fr3_link0', 'tip': kitting.frames.tip.replace('panda', 'fr3')}
    )
    task = kitting.model_copy(update={'frames': frames})
    robot = ElementTree.fromstring(robot_urdf(task, ROBOTS['fr3'], 'mock'))
    links = {link.get('name') for link in robot.findall('link')}
    assert {'fr3_link0', 'fr3_hand', 'fr3_leftfinger', frames.tip} <= links
    joints = {joint.get('name') for joint in robot.find('ros2_control').findall('joint')}
    assert {'fr3_joint7', 'fr3_finger_joint1'} <= joints


@pytest.mark.parametrize('name', ROBOTS)
def test_every_controller_commands_joints_and_frames_that_the_description_has(name):
    robot, found = described(name, 'mock'), controllers(name)
    links = {link.get('name') for link in robot.findall('link')}
    sensors = {sensor.get('name') for sensor in robot.iter('sensor')}
    manager = found.pop('controller_manager')
    assert manager['enforce_command_limits'] is True
    typed = {key for key, value in manager.items() if isinstance(value, dict)}
    assert all(re.fullmatch(r'\w+/\w+', manager[key]['type']) for key in typed)
    assert set(found) == typed and {*ROBOTS[name].active, *ROBOTS[name].inactive} <= typed
    for key, parameters in found.items():
        if 'joints' in parameters:
            assert parameters['joints'] == list(ROBOTS[name].joints), key
        for field in ('base_frame', 'end_effector_frame', 'robot_base_link', 'end_effector_link'):
            assert parameters.get(field, TASKS[name].frames.tip) in links, f'{key}.{field}'
    wrench = found['force_torque_sensor_broadcaster']
    assert wrench['sensor_name'] in sensors and wrench['frame_id'] == TASKS[name].frames.tip
    assert manager['update_rate'] % wrench['update_rate'] == 0


def test_what_is_added_to_the_controllers_of_the_ur_driver_fits_the_arm():
    links = {link.get('name') for link in described('ur5e', 'mock').findall('link')}
    ((name, parameters),) = controllers('ur5e', EXTRA).items()
    # The spawner takes the type from here, since the driver's own file does not know this controller.
    assert parameters['type'] == 'cartesian_compliance_controller/CartesianComplianceController'
    assert name not in controllers('ur5e')['controller_manager']
    assert parameters['joints'] == list(ROBOTS['ur5e'].joints)
    frames = 'robot_base_link', 'end_effector_link', 'compliance_ref_link', 'ft_sensor_ref_link'
    assert {parameters[frame] for frame in frames} <= links


@pytest.mark.parametrize('name', ROBOTS)
def test_the_compliant_controller_is_as_stiff_as_the_task_assumes(name):
    limits, found = TASKS[name].limits, controllers(name)
    if name in ('panda', 'fr3'):
        law = found['cartesian_controller']['task']
        along = [law[f'k_pos_{axis}'] for axis in 'xyz']
        about = [law[f'k_rot_{axis}'] for axis in 'xyz']
        assert min(law['error_clip'][axis] for axis in 'xyz') > limits.lead_m
        assert min(law['error_clip'][f'r{axis}'] for axis in 'xyz') > limits.lead_rad
    else:
        found = controllers(name, EXTRA)
        law = found['cartesian_compliance_controller']['stiffness']
        along = [law[f'trans_{axis}'] for axis in 'xyz']
        about = [law[f'rot_{axis}'] for axis in 'xyz']
    assert set(along) == {limits.stiffness_n_m} and set(about) == {limits.stiffness_nm_rad}


@pytest.mark.parametrize(
    'path', sorted([*CONFIG.rglob('*.yaml'), *CONFIG.rglob('*.repos')]), ids=lambda p: p.name
)
def test_every_configuration_file_is_yaml_and_says_its_licence(path):
    text = path.read_text()
    assert text.startswith('# SPDX-License-Identifier: Apache-2.0') and yaml.safe_load(text)


@pytest.mark.parametrize('name', ROBOTS)
def test_the_semantic_description_names_links_and_joints_that_exist(name):
    robot, semantic = described(name), semantics(name)
    assert semantic.get('name') == robot.get('name')
    links = {link.get('name') for link in robot.findall('link')}
    chain = semantic.find("group[@name='arm']/chain")
    assert chain.get('base_link') == TASKS[name].frames.base
    assert chain.get('tip_link') == TASKS[name].frames.tip
    state = semantic.find("group_state[@name='home']")
    assert [joint.get('name') for joint in state] == list(ROBOTS[name].joints)
    homes = {
        j.get('name'): float(j.find("state_interface[@name='position']/param").text)
        for j in described(name, 'mock').find('ros2_control').findall('joint')
    }
    assert {j.get('name'): float(j.get('value')) for j in state} == homes
    pairs = semantic.findall('disable_collisions')
    assert pairs and all(pair.get(end) in links for pair in pairs for end in ('link1', 'link2'))


@pytest.mark.skipif(find_spec('pinocchio') is None, reason='Pinocchio is not installed')
@pytest.mark.parametrize('name', ROBOTS)
def test_pinocchio_reads_both_descriptions_and_the_home_pose_touches_nothing(name, tmp_path):
    import pinocchio

    urdf = tmp_path / 'robot.urdf'
    urdf.write_text(urdf_of(name).replace('file://', ''))
    model = pinocchio.buildModelFromUrdf(str(urdf))
    srdf = str(ROBOTS[name].moveit / f'pipe_{name}.srdf')
    pinocchio.loadReferenceConfigurations(model, srdf, False)
    kind = pinocchio.GeometryType.COLLISION
    geometry = pinocchio.buildGeomFromUrdf(model, str(urdf), kind, package_dirs=['/'])
    geometry.addAllCollisionPairs()
    before = len(geometry.collisionPairs)
    pinocchio.removeCollisionPairs(model, geometry, srdf)
    assert 0 < len(geometry.collisionPairs) < before
    data, shapes = model.createData(), geometry.createData()
    home = model.referenceConfigurations['home']
    assert not pinocchio.computeCollisions(model, data, geometry, shapes, home, True)


@pytest.mark.parametrize('name', ROBOTS)
def test_moveit_plans_for_the_group_within_the_limits_of_the_description(name):
    robot = described(name)
    velocity = {
        j.get('name'): float(j.find('limit').get('velocity'))
        for j in robot.findall('joint')
        if j.find('limit') is not None
    }
    limits = moveit(name, 'joint_limits.yaml')['joint_limits']
    assert set(limits) == set(ROBOTS[name].joints)
    for joint, limit in limits.items():
        assert limit['max_velocity'] <= velocity[joint] + 1e-6 and limit['max_acceleration'] > 0
    assert set(moveit(name, 'kinematics.yaml')) == {'arm'}
    ompl = moveit(name, 'ompl_planning.yaml')
    assert set(ompl['arm']['planner_configs']) <= set(ompl['planner_configs'])
    cpp = moveit(name, 'moveit_cpp.yaml')
    files = {
        p.name.removesuffix('_planning.yaml') for p in ROBOTS[name].moveit.glob('*_planning.yaml')
    }
    assert set(cpp['planning_pipelines']['pipeline_names']) == files
    assert cpp['plan_request_params']['planner_id'] in ompl['planner_configs']


@pytest.mark.parametrize('name', ROBOTS)
def test_servo_stops_by_itself_no_later_than_the_guard_and_commands_a_controller_that_is_there(
    name,
):
    servo = moveit(name, 'servo.yaml')['/**/servo_node']['ros__parameters']['moveit_servo']
    limits = TASKS[name].limits
    # Two twists in a row may be late by nearly a period; from the third missing one on nobody commands.
    periods = servo['incoming_command_timeout'] / TASKS[name].period_s
    assert 2.0 < periods < 3.0 and servo['incoming_command_timeout'] <= limits.watchdog_s
    # moveit_servo refuses to start otherwise.
    own, others = (servo[f'{kind}_collision_proximity_threshold'] for kind in ('self', 'scene'))
    assert 0.0 < own <= others
    assert servo['lower_singularity_threshold'] < servo['hard_stop_singularity_threshold']
    assert servo['command_in_type'] == 'speed_units' and servo['check_collisions'] is True
    assert servo['move_group_name'] == 'arm'
    assert servo['scale']['linear'] <= limits.velocity_m_s
    assert servo['scale']['rotational'] <= limits.velocity_rad_s
    controller, topic = servo['command_out_topic'].split('/')
    assert topic == 'commands' and controller in ROBOTS[name].active
    assert controllers(name)['controller_manager'][controller]['type'] == (
        'position_controllers/JointGroupPositionController'
    )
    assert servo['command_out_type'] == 'std_msgs/Float64MultiArray'


@pytest.mark.skipif(shutil.which('check_urdf') is None, reason='check_urdf (liburdfdom-tools)')
@pytest.mark.parametrize(('name', 'hardware'), PAIRS)
def test_check_urdf_accepts_the_description(name, hardware, tmp_path):
    urdf = tmp_path / 'robot.urdf'
    urdf.write_text(urdf_of(name, hardware))
    done = subprocess.run(
        ['check_urdf', urdf], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and 'Successfully Parsed XML' in done.stdout, done.stderr
