# SPDX-License-Identifier: Apache-2.0
"""What `q2rl up` refuses before anything is written."""

from __future__ import annotations

import pytest

from q2rl_lab import start_check
from q2rl_lab.run_folder import RunConfig
from q2rl_lab.start_check import check_start
from q2rl_task import InputError, load_task

TASK = load_task('pipe_assembly')


@pytest.mark.parametrize('sink', ['servo_twist', 'by_hand'])
def test_a_way_to_command_the_arm_that_is_not_there_is_refused_before_anything_is_written(sink):
    with pytest.raises(InputError, match='--command-sink'):
        check_start(RunConfig('pipe_assembly', command_sink=sink), TASK)


@pytest.mark.parametrize('sim', ['mock', 'gazebo'])
def test_a_simulation_whose_packages_are_missing_is_refused_in_one_line(monkeypatch, sim):
    config = RunConfig('pipe_assembly', realtime=True, sim=sim)
    monkeypatch.setattr(start_check, 'has_package', lambda name: name != 'controller_manager')
    with pytest.raises(InputError) as caught:
        check_start(config, TASK)
    text = str(caught.value)
    assert f'--sim {sim}' in text and 'controller_manager' in text and '\n' not in text
    assert 'Q2RL_USE_SYSTEM_ROS=1' in text and 'robot_state_publisher' not in text
    monkeypatch.setattr(start_check, 'has_package', lambda name: True)
    check_start(config, TASK)


def test_the_default_simulation_needs_no_package_of_others(monkeypatch):
    monkeypatch.setattr(start_check, 'has_package', lambda name: False)
    check_start(RunConfig('pipe_assembly'), TASK)
    with pytest.raises(
        InputError,
        match='--robot-type: the MuJoCo scenes have a panda only; say --sim mock or --sim gazebo',
    ):
        check_start(RunConfig('pipe_assembly', robot_type='ur5e'), TASK)


@pytest.mark.parametrize(
    ('sim', 'said'),
    [
        ('none', r'--sim none: is a real arm.*docs/bring-your-own-robot\.md'),
        ('isaac', r"--sim: unknown value 'isaac'; say one of mujoco, mock, gazebo$"),
    ],
)
def test_a_simulation_that_is_none_is_refused(sim, said):
    with pytest.raises(InputError, match=said):
        check_start(RunConfig('pipe_assembly', realtime=True, sim=sim), TASK)


def test_moveit_is_refused_where_it_is_not_installed(monkeypatch):
    config = RunConfig('pipe_assembly', planner='moveit')
    monkeypatch.setattr(start_check, 'has_module', lambda name: name != 'moveit')
    with pytest.raises(InputError, match='--planner moveit: needs MoveIt and moveit_py'):
        check_start(config, TASK)
    monkeypatch.setattr(start_check, 'has_module', lambda name: True)
    check_start(config, TASK)
