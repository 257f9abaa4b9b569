# SPDX-License-Identifier: Apache-2.0
"""What is started below q2rl: the driver of an FR3, and MoveIt Servo with all that it must know."""

from __future__ import annotations

from pathlib import Path
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from q2rl_bringup import cell_starts
from q2rl_bringup.cell_processes import MOVED_TF
from q2rl_bringup.cell_starts import driver_graph, servo_graph
from q2rl_bringup.robots import ROBOTS
from q2rl_task import InputError, load_task

TASKS = {'panda': 'pipe_assembly', 'fr3': 'pipe_assembly_fr3', 'ur5e': 'pipe_assembly_ur5e'}


@pytest.mark.parametrize('name', TASKS)
def test_servo_is_told_of_the_arm_its_group_and_its_solver_where_it_looks_for_them(name):
    graph = servo_graph({'task': TASKS[name], 'namespace': 'left'})
    (servo,) = graph.nodes
    assert (servo.package, servo.executable, servo.name) == (
        'moveit_servo', 'servo_node', 'servo_node',
    )  # fmt: skip
    assert graph.namespace == '/left' and servo.files == (ROBOTS[name].moveit / 'servo.yaml',)
    told = servo.parameters
    urdf = ElementTree.fromstring(told['robot_description'])
    semantic = ElementTree.fromstring(told['robot_description_semantic'])
    assert urdf.get('name') == semantic.get('name') == f'pipe_{name}'
    assert told['robot_description_kinematics.arm.kinematics_solver'].startswith('kdl_')
    joint = ROBOTS[name].joints[0]
    assert told[f'robot_description_planning.joint_limits.{joint}.has_velocity_limits'] is True
    text = yaml.safe_load(graph.parameter_file(servo))
    assert text['/left/servo_node']['ros__parameters'] == dict(told)
    assert not servo.managed and not servo.respawn


def test_the_manifest_brings_what_servo_loads():
    manifest = ElementTree.parse(Path(__file__).parents[1] / 'package.xml')
    brought = {element.text for element in manifest.iter('exec_depend')}
    (servo,) = servo_graph({}).nodes
    solver = servo.parameters['robot_description_kinematics.arm.kinematics_solver']
    assert solver == 'kdl_kinematics_plugin/KDLKinematicsPlugin'
    assert {servo.package, 'moveit_kinematics'} <= brought


def test_servo_keeps_the_time_of_a_simulation_where_it_is_told_to():
    (servo,) = servo_graph({'namespace': 'left', 'use_sim_time': 'true'}).nodes
    assert servo.parameters['use_sim_time'] is True and ('/clock', 'clock') in servo.remappings
    (servo,) = servo_graph({'namespace': 'left'}).nodes
    assert servo.parameters['use_sim_time'] is False and servo.remappings == MOVED_TF


def test_servo_takes_the_description_that_it_is_given_and_no_arm_that_nobody_configured(
    tmp_path, monkeypatch
):
    file = tmp_path / 'mine.urdf'
    joints = ''.join(f'<joint name="{name}"/>' for name in ROBOTS['ur5e'].joints)
    file.write_text(f'<robot name="pipe_ur5e">{joints}</robot>')
    given = {'task': 'pipe_assembly_ur5e', 'description_file': str(file)}
    (servo,) = servo_graph(given).nodes
    assert servo.parameters['robot_description'] == file.read_text()
    # Another arm may stand on a frame of the same name.
    other = tmp_path / 'other.urdf'
    other.write_text('<robot name="other"><joint name="joint_1"/></robot>')
    with pytest.raises(
        InputError, match="no MoveIt configuration here is for such an arm on 'base_l"
    ):
        servo_graph({**given, 'description_file': str(other)})
    with pytest.raises(InputError, match='robot_description'):
        servo_graph({**given, 'description_file': str(tmp_path / 'none')})
    with pytest.raises(InputError, match='`robot_ip`'):
        servo_graph({'robot_ip': '1.2.3.4'})
    task = load_task('pipe_assembly')
    frames = task.frames.model_copy(update={'base': 'elsewhere'})
    monkeypatch.setattr(
        cell_starts, 'load_task', lambda _: task.model_copy(update={'frames': frames})
    )
    with pytest.raises(InputError, match='elsewhere'):
        servo_graph({})


def test_the_driver_of_the_fr3_holds_the_tool_and_loads_compliance_without_starting_it(monkeypatch):
    asked = []

    def described(task, robot, hardware, **kwargs):
        asked.append((task.name, robot.name, hardware, kwargs))
        return '<robot name="pipe_fr3"/>'

    monkeypatch.setattr(cell_starts, 'robot_urdf', described)
    graph = driver_graph({'robot_ip': '172.16.0.2'})
    assert asked == [('pipe_assembly_fr3', 'fr3', 'vendor', {'robot_ip': '172.16.0.2'})]
    publisher, manager, active, *inactive = graph.nodes
    assert publisher.parameters == {'robot_description': '<robot name="pipe_fr3"/>'}
    # crisp asks this node, by its name, for the description.
    assert publisher.name == 'robot_state_publisher'
    assert manager.files == (ROBOTS['fr3'].controllers,)
    known = yaml.safe_load(ROBOTS['fr3'].controllers.read_text())['/**/controller_manager']
    for spawner, controllers in ((active, 2), *((each, 1) for each in inactive)):
        assert set(spawner.arguments[:controllers]) <= set(known['ros__parameters'])
        assert str(ROBOTS['fr3'].controllers) in spawner.arguments
    assert '--inactive' not in active.arguments and active.required
    assert [each.arguments[0] for each in inactive] == [
        'cartesian_controller', 'forward_position_controller',
    ]  # fmt: skip
    # An arm without crisp still has its driver.
    assert all('--inactive' in each.arguments and not each.required for each in inactive)
