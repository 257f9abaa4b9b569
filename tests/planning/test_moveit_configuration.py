# SPDX-License-Identifier: Apache-2.0
"""What MoveIt is told: the shipped folder of a robot that is known, and what is made for any other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
import shutil
import sys
import xml.etree.ElementTree as ElementTree

import moveit_stand_in
from planning_cell import plan_request, settings, tip
import pytest
from rclpy.context import Context
from rclpy.node import Node
import yaml

from q2rl_bringup.node_graph import build_graph
from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import PANDA, ROBOTS
from q2rl_control.kinematics import ArmKinematics
from q2rl_control.moveit_config import GROUP, moveit_config
from q2rl_control.planners import make_planner
from q2rl_lab.ros_environment import Domain
from q2rl_task import InputError, load_task

TASKS = {'panda': 'pipe_assembly', 'fr3': 'pipe_assembly_fr3', 'ur5e': 'pipe_assembly_ur5e'}
SEMANTIC, LIMITS = 'robot_description_semantic', 'robot_description_planning'


@pytest.fixture
def stand_in(monkeypatch):
    for name, module in moveit_stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


@cache
def described(name, task):
    task = load_task(task)
    urdf = robot_urdf(task, ROBOTS[name])
    fingers = {joint: 0.04 for joint in task.gripper.joints} if task.gripper else {}
    return task, urdf, ArmKinematics(urdf, task.frames.base, task.frames.tip, others=fingers)


def told(name, task='', given=None, folder=None):
    shipped = ROBOTS[name].moveit if folder is None else folder
    return moveit_config(*described(name, task or TASKS[name]), given or {}, str(shipped))


def pairs(parameters, reason):
    semantic = ElementTree.fromstring(parameters[SEMANTIC])
    found = semantic.findall(f"disable_collisions[@reason='{reason}']")
    return {frozenset((pair.get('link1'), pair.get('link2'))) for pair in found}


def leaves(tree, prefix=''):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


@pytest.mark.parametrize('name', ROBOTS)
def test_a_known_robot_is_planned_for_with_the_files_of_its_folder(name):
    parameters, folder = told(name), ROBOTS[name].moveit
    assert parameters[SEMANTIC] == (folder / f'pipe_{name}.srdf').read_text()
    assert len(pairs(parameters, 'Never')) > 3
    read = {
        'kinematics.yaml': parameters['robot_description_kinematics'],
        'joint_limits.yaml': parameters[LIMITS],
        'ompl_planning.yaml': parameters['ompl'],
    }
    for file, section in read.items():
        assert yaml.safe_load((folder / file).read_text()) == section
    for section, content in yaml.safe_load((folder / 'moveit_cpp.yaml').read_text()).items():
        assert parameters[section] == content
    # Nothing lies there that nobody reads.
    others = {'moveit_cpp.yaml', 'servo.yaml', f'pipe_{name}.srdf'}
    assert {file.name for file in folder.iterdir()} == set(read) | others


@pytest.mark.parametrize('name', ROBOTS)
def test_ros_reads_every_parameter_from_the_file_that_moveit_py_writes(name, tmp_path):
    parameters = told(name)
    file = tmp_path / 'launch_params_x'
    file.write_text(yaml.dump({'q2rl_planner': {'ros__parameters': parameters}}))
    domain, context = Domain(), Context()
    context.init(args=[], domain_id=domain.number)
    node = Node(
        'q2rl_planner',
        context=context,
        cli_args=['--ros-args', '--params-file', str(file)],
        allow_undeclared_parameters=True,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        for parameter, value in leaves(parameters):
            assert node.get_parameter(parameter).value == value, parameter
    finally:
        node.destroy_node()
        context.shutdown()
        domain.release()


@pytest.mark.parametrize('name', ROBOTS)
def test_an_unknown_robot_is_planned_for_alike_but_for_what_nobody_sampled(name):
    known, made = told(name), told(name, folder='')
    assert pairs(made, 'Adjacent') and not pairs(made, 'Never')
    shaped = {pair for pair in pairs(made, 'Adjacent') if pair <= solid(name)}
    assert shaped <= pairs(known, 'Adjacent') | pairs(known, 'Never')
    own = (SEMANTIC, LIMITS, 'planning_scene_monitor_options')
    assert {k: v for k, v in known.items() if k not in own} == {
        k: v for k, v in made.items() if k not in own
    }


def solid(name):
    """Links that something can touch."""
    robot = ElementTree.fromstring(described(name, TASKS[name])[1])
    return {
        link.get('name') for link in robot.findall('link') if link.find('collision') is not None
    }


def test_another_tool_has_a_semantic_description_of_its_own():
    parameters, task = told('panda', 'kitting'), load_task('kitting')
    semantic = ElementTree.fromstring(parameters[SEMANTIC])
    chain = semantic.find(f"group[@name='{GROUP}']/chain")
    assert chain.get('tip_link') == task.frames.tip and semantic.get('name') == 'panda'
    assert parameters[LIMITS] == told('panda')[LIMITS]


def test_so_has_another_tip_on_the_same_tool(tmp_path):
    for file in PANDA.moveit.iterdir():
        shutil.copy(file, tmp_path)
    srdf = tmp_path / 'pipe_panda.srdf'
    srdf.write_text(srdf.read_text().replace('tip_link="pipe_tip"', 'tip_link="other"'))
    assert not pairs(told('panda', folder=tmp_path), 'Never')


def test_single_parameters_win_over_those_of_the_folder():
    given = {'ompl': {'planner_configs': {'RRTConnect': {'range': 0.3}}}}
    ompl = told('panda', given=given)['ompl']
    assert ompl['planner_configs']['RRTConnect'] == {'type': 'geometric::RRTConnect', 'range': 0.3}
    assert ompl['request_adapters'] == told('panda')['ompl']['request_adapters']


def test_without_a_folder_it_plans_as_well(stand_in):
    planner = make_planner(replace(settings('moveit'), moveit_folder=''))
    path = planner.plan(plan_request(tip(0.44, 0.0, 0.14), tip(0.56, 0.0, 0.14)))
    assert len(path.waypoints) > 2


def test_what_moveit_does_not_start_with_is_one_clear_line(stand_in):
    waiting = {'planning_scene_monitor_options': {'wait_for_initial_state_timeout': 10.0}}
    with pytest.raises(InputError, match='MoveIt: Unable to configure') as error:
        make_planner(replace(settings('moveit'), moveit_config=waiting))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('file', 'text', 'problem'),
    [
        ('', '', 'no folder'),
        ('kinematics.yaml', 'arm: [', 'kinematics.yaml'),
        ('ompl_planning.yaml', '- one', 'is not a mapping of fields'),
        ('pipe_panda.srdf', '<robot', 'pipe_panda.srdf'),
        ('joint_limits.yaml', b'\xff\xfe', 'joint_limits.yaml: cannot be read'),
        ('pipe_panda.srdf', b'\xff\xfe', 'pipe_panda.srdf'),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_clear_line(file, text, problem, tmp_path):
    folder = tmp_path / 'moveit'
    if file:
        folder.mkdir()
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=problem) as error:
        told('panda', folder=folder)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ROBOTS)
def test_a_start_names_the_folder_of_the_robot_that_it_knows(name, tmp_path):
    own = tmp_path / 'own.urdf'
    given = {'sim': 'none', 'task': TASKS[name], 'planner': 'moveit', 'description_file': str(own)}

    def arm():
        nodes = {node.name: node for node in build_graph(given).nodes}
        return nodes['arm_interface'].parameters

    own.write_text(described(name, TASKS[name])[1])
    assert arm()['moveit_folder'] == str(ROBOTS[name].moveit)
    # Other arms stand on a base_link too.
    own.write_text(own.read_text().replace(f'"{ROBOTS[name].joints[0]}"', '"joint_a"'))
    assert 'moveit_folder' not in arm()
    own.write_text('no URDF')
    assert 'moveit_folder' not in arm()
    given['planner'] = 'ompl'
    assert 'moveit_folder' not in arm()
