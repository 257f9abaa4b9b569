# SPDX-License-Identifier: Apache-2.0
"""The real arms: our tool on the description of the vendor, of whose packages stand-ins are here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import ROBOTS
from q2rl_control.wrench_frames import WrenchFrames
from q2rl_task import InputError, load_task

TASKS = {name: load_task(f'pipe_assembly_{name}') for name in ('fr3', 'ur5e')}
XACRO = 'xmlns:xacro="http://www.ros.org/wiki/xacro"'
ARGUMENTS = '<xacro:arg name="{0}" default="{1}"/>\n<xacro:property name="{0}" value="$(arg {0})"/>'
AXES = [f'{kind}.{axis}' for kind in ('force', 'torque') for axis in 'xyz']


def chain(*links: str, moving: str = '') -> str:
    """Return links in a row; joints turn where the child's name begins with `moving`."""
    parts = [f'<link name="{link}"/>' for link in links]
    for number, (parent, child) in enumerate(pairwise(links)):
        kind = 'revolute' if moving and child.startswith(moving) else 'fixed'
        parts.append(
            f'<joint name="{child}_of_{number}" type="{kind}"><parent link="{parent}"/>'
            f'<child link="{child}"/><origin xyz="0 0 0.1"/><axis xyz="0 0 1"/>'
            '<limit lower="-2" upper="2" effort="10" velocity="2"/></joint>'
        )
    return '\n'.join(parts)


def finger(name: str, joint: str, turned: str) -> str:
    return (
        f'<link name="{name}"/><joint name="{joint}" type="prismatic"><parent link="fr3_hand"/>'
        f'<child link="{name}"/><origin xyz="0 0 0.0584" rpy="0 0 {turned}"/><axis xyz="0 1 0"/>'
        '<limit lower="0" upper="0.04" effort="100" velocity="0.2"/></joint>'
    )


# As the vendors' files look from outside: their arguments, macros and names, none of their content.
FR3 = f"""<robot {XACRO} name="$(arg robot_type)">
{ARGUMENTS.format('hand', 'false')}
{ARGUMENTS.format('ee_id', 'none')}
{chain('base', *(f'fr3_link{k}' for k in range(9)), moving='fr3_link')}
<xacro:if value="${{hand and ee_id == 'franka_hand'}}">
  <link name="fr3_hand"/>
  <joint name="fr3_hand_joint" type="fixed"><parent link="fr3_link8"/><child link="fr3_hand"/></joint>
  {finger('fr3_leftfinger', 'fr3_finger_joint1', '0')}
  {finger('fr3_rightfinger', 'fr3_finger_joint2', '3.14159')}
  <link name="fr3_hand_tcp"/>
  <joint name="fr3_hand_tcp_joint" type="fixed"><parent link="fr3_hand"/><child link="fr3_hand_tcp"/>
    <origin xyz="0 0 0.1034"/></joint>
</xacro:if>
</robot>"""
FRANKA_HARDWARE = f"""<robot {XACRO}>
<xacro:macro name="franka_arm_ros2_control"
             params="robot_type robot_ip:='' use_fake_hardware:=false hand:=false arm_prefix:=''">
  <ros2_control name="${{arm_prefix}}FrankaHardwareInterface" type="system">
    <hardware>
      <param name="version">1.1.0</param>
      <plugin>franka_hardware/FrankaHardwareInterface</plugin>
      <param name="robot_ip">${{robot_ip}}</param>
    </hardware>
    <sensor name="${{robot_type}}_tcp">
      {''.join(f'<state_interface name="{axis}"/>' for axis in AXES)}
    </sensor>
  </ros2_control>
</xacro:macro>
</robot>"""
UR = f"""<robot {XACRO} name="$(arg name)">
<xacro:arg name="name" default="ur"/>
<xacro:arg name="ur_type" default="urXe"/>
<xacro:arg name="robot_ip" default="0.0.0.0"/>
<xacro:arg name="kinematics_params" default="nominal.yaml"/>
<xacro:arg name="headless_mode" default="false"/>
{chain('world', 'base_link', 'shoulder_link', 'wrist_3_link', 'flange', 'tool0', moving='shoulder')}
<ros2_control name="$(arg name)" type="system"><hardware>
  <plugin>ur_robot_driver/URPositionHardwareInterface</plugin>
  <param name="robot_ip">$(arg robot_ip)</param>
  <param name="ur_type">$(arg ur_type)</param>
  <param name="kinematics">$(arg kinematics_params)</param>
  <param name="headless_mode">$(arg headless_mode)</param>
</hardware></ros2_control>
</robot>"""
UR_ARM = f"""<robot {XACRO}>
<xacro:macro name="ur_robot" params="name tf_prefix parent *origin
             joint_limits_parameters_file kinematics_parameters_file physical_parameters_file
             visual_parameters_file safety_limits:=false safety_pos_margin:=0.15
             safety_k_position:=20 force_abs_paths:=false">
  <joint name="base_joint" type="fixed"><xacro:insert_block name="origin"/>
    <parent link="${{parent}}"/><child link="base_link"/></joint>
  {chain('base_link', 'shoulder_link', 'wrist_3_link', 'flange', 'tool0', moving='shoulder')}
  <link name="base_link_inertia"><collision><geometry>
    <xacro:if value="${{force_abs_paths}}">
      <mesh filename="file://$(find ur_description)/meshes/base.stl"/>
    </xacro:if>
    <xacro:unless value="${{force_abs_paths}}">
      <mesh filename="package://ur_description/meshes/base.stl"/>
    </xacro:unless>
  </geometry></collision></link>
  <joint name="base_link-base_link_inertia" type="fixed">
    <parent link="base_link"/><child link="base_link_inertia"/></joint>
</xacro:macro>
</robot>"""
FILES = {
    ('franka_description', 'robots/fr3/fr3.urdf.xacro'): FR3,
    ('franka_hardware', 'ros2_control/franka_arm.ros2_control.xacro'): FRANKA_HARDWARE,
    ('ur_robot_driver', 'urdf/ur.urdf.xacro'): UR,
    ('ur_description', 'urdf/ur_macro.xacro'): UR_ARM,
    ('ur_description', 'meshes/base.stl'): '',
}


@pytest.fixture
def vendors(tmp_path, monkeypatch):
    for (package, file), text in FILES.items():
        mark = tmp_path / 'share/ament_index/resource_index/packages' / package
        path = tmp_path / 'share' / package / file
        for made in (mark, path):
            made.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        path.write_text(text)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))


def driven(name, **kwargs):
    return ElementTree.fromstring(robot_urdf(TASKS[name], ROBOTS[name], 'vendor', **kwargs))


def parameters(robot):
    found = robot.find('ros2_control/hardware').findall('param')
    return {param.get('name'): param.text for param in found}


@pytest.mark.parametrize('name', TASKS)
def test_the_vendors_arm_holds_our_tool_and_is_driven_by_the_vendor(vendors, name):
    robot, frames = driven(name, robot_ip='172.16.0.2'), TASKS[name].frames
    parents = {
        j.find('child').get('link'): j.find('parent').get('link') for j in robot.findall('joint')
    }
    at = frames.tip
    while at != frames.base:
        at = parents[at]
    assert robot.get('name') == f'pipe_{name}' and len(robot.findall('ros2_control')) == 1
    assert parameters(robot)['robot_ip'] == '172.16.0.2'


def test_the_fr3_has_what_its_driver_asks_for_and_fingers_closed_on_the_pipe(vendors):
    robot = driven('fr3')
    assert parameters(robot)['version'] == '1.1.0'  # without it franka_hardware does not load
    sensors = {sensor.get('name') for sensor in robot.iter('sensor')}
    assert sensors == {'fr3_tcp'}
    kinds = {joint.get('name'): joint.get('type') for joint in robot.findall('joint')}
    assert kinds['fr3_finger_joint1'] == kinds['fr3_finger_joint2'] == 'fixed'
    # The wrench's header names it, so it has to be where the tip is known from.
    assert 'fr3_hand_tcp' in {link.get('name') for link in robot.findall('link')}
    pipe = next(j for j in robot.findall('joint') if j.find('child').get('link') == 'pipe')
    tip = next(j for j in robot.findall('joint') if j.find('child').get('link') == 'pipe_tip')
    far = sum(float(j.find('origin').get('xyz').split()[2]) for j in (pipe, tip))
    assert far == pytest.approx(0.1034 + 0.065)


def test_the_wrench_that_the_fr3_names_by_its_tcp_is_brought_to_the_end_of_the_pipe(vendors):
    pytest.importorskip('pinocchio', reason='Pinocchio is not installed')
    from q2rl_control.rigid_frames import RigidFrames

    frames = TASKS['fr3'].frames
    text = robot_urdf(TASKS['fr3'], ROBOTS['fr3'], 'vendor')
    links = RigidFrames(text, frames.base, frames.tip)
    known = WrenchFrames(frames.base, frames.tip, links)
    at_tip = known.at_tip('fr3_hand_tcp', np.array([10.0, 0, 0, 0, 0, 0]), lambda: None)
    np.testing.assert_allclose(at_tip, [10.0, 0, 0, 0, -0.65, 0], atol=1e-9)


def test_an_fr3_with_a_gripper_task_keeps_its_fingers_and_the_vendors_tcp(vendors):
    kitting = load_task('kitting')
    frames = kitting.frames.model_copy(update={'base': 'fr3_link0', 'tip': 'fr3_hand_tcp'})
    task = kitting.model_copy(update={'frames': frames})
    robot = ElementTree.fromstring(robot_urdf(task, ROBOTS['fr3'], 'vendor'))
    kinds = {joint.get('name'): joint.get('type') for joint in robot.findall('joint')}
    assert kinds['fr3_finger_joint1'] == 'prismatic' and 'pipe_joint' not in kinds


def test_the_ur5e_passes_on_the_calibration_and_its_type(vendors):
    robot = driven('ur5e', kinematics_file='/calibration.yaml')
    assert parameters(robot)['kinematics'] == '/calibration.yaml'
    assert parameters(robot)['ur_type'] == 'ur5e'
    assert parameters(driven('ur5e'))['kinematics'] == 'nominal.yaml'


@pytest.mark.parametrize('hardware', ['none', 'mock', 'gazebo'])
def test_the_vendors_meshes_are_files_that_gazebo_finds(vendors, hardware):
    """It knows package:// only of packages that export their models to it, and this one does not."""
    robot = ElementTree.fromstring(robot_urdf(TASKS['ur5e'], ROBOTS['ur5e'], hardware))
    (mesh,) = robot.iter('mesh')
    where = urlparse(mesh.get('filename'))
    assert where.scheme == 'file' and Path(where.path).is_file()


@pytest.mark.parametrize('hardware', ['none', 'mock', 'gazebo'])
def test_the_ur5e_of_shapes_stands_in_the_world_as_the_vendors_does(request, monkeypatch, hardware):
    def above_the_base():
        robot = ElementTree.fromstring(robot_urdf(TASKS['ur5e'], ROBOTS['ur5e'], hardware))
        joints = {j.find('child').get('link'): j for j in robot.findall('joint')}
        roots = {link.get('name') for link in robot.findall('link')} - set(joints)
        joint = joints['base_link']
        assert joint.get('type') == 'fixed' and joint.find('parent').get('link') in roots
        return roots

    monkeypatch.setattr('q2rl_bringup.robot_description._has_package', lambda name: False)
    shapes = above_the_base()
    monkeypatch.undo()
    request.getfixturevalue('vendors')
    assert above_the_base() == shapes == {'world'}


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    for name, package, how in (
        ('fr3', 'franka_description', 'fr3.repos'),
        ('ur5e', 'ur_robot_driver', 'apt install ros-jazzy-ur-robot-driver'),
    ):
        with pytest.raises(InputError, match=f'needs the ROS package {package}') as caught:
            driven(name)
        assert how in str(caught.value) and '\n' not in str(caught.value)
    with pytest.raises(InputError, match='no driver'):
        robot_urdf(load_task('pipe_assembly'), ROBOTS['panda'], 'vendor')
