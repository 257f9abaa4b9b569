# SPDX-License-Identifier: Apache-2.0
"""A planner in a process of its own: the same answers, and one that dies or hangs is replaced."""

from __future__ import annotations

from dataclasses import replace
import os
import signal
import sys
import time

import numpy as np
from planning_cell import SOCKET, plan_request, settings, tip
import pytest

from q2rl_control import planner_process
from q2rl_control.planner_process import PlannerProcess
from q2rl_control.planners import make_planner
from q2rl_control.planning import PlannedPath, PlanRefused
from q2rl_task import InputError

WAIT_S = 100.0
AROUND = (tip(0.44, 0.0, 0.14), tip(0.56, 0.0, 0.14))


def answer(planning: PlannerProcess) -> PlannedPath:
    end = time.monotonic() + WAIT_S
    while not planning.ready():
        assert time.monotonic() < end, 'waited in vain'
        planning._pipe.poll(0.02)
    return planning.poll()


@pytest.fixture(scope='module')
def planning():
    made = PlannerProcess(settings('ompl'))
    yield made
    made.close()


def test_it_answers_as_the_planner_itself_and_only_what_was_asked_last(planning, ompl):
    assert not planning.ready() and planning.poll() is None
    asked = plan_request(*AROUND, seed=3)
    planning.begin(plan_request(*AROUND, seed=9))
    planning.begin(asked)
    path = answer(planning)
    # Bit for bit, from another process: the seed is all that there is to chance.
    np.testing.assert_array_equal(path.joints, ompl.plan(asked).joints)
    assert planning.poll() is path
    planning.begin(replace(asked, goal=SOCKET))
    with pytest.raises(PlanRefused, match='too near fixture'):
        answer(planning)
    planning.cancel()
    assert planning.poll() is None


def test_a_killed_process_is_a_refusal_and_the_next_plan_is_answered(planning):
    first = planning._process
    os.kill(first.pid, signal.SIGSTOP)  # it must not be through before it is killed
    planning.begin(plan_request(*AROUND))
    os.kill(first.pid, signal.SIGKILL)
    first.join(WAIT_S)
    with pytest.raises(PlanRefused, match="the planner's process ended"):
        answer(planning)
    planning.begin(plan_request(*AROUND))
    assert len(answer(planning).waypoints) > 2


def test_a_planner_that_hangs_is_given_up_and_replaced(planning, monkeypatch):
    monkeypatch.setattr(planner_process, 'GRACE_S', 0.05)
    monkeypatch.setattr(planning, '_settings', settings('ompl', limit_s=0.05))
    hanging = planning._process
    os.kill(hanging.pid, signal.SIGSTOP)
    planning.begin(plan_request(*AROUND))
    with pytest.raises(PlanRefused, match=r'did not answer within 0\.05 s'):
        answer(planning)
    assert not hanging.is_alive() and planning._process is not hanging
    monkeypatch.undo()
    planning.begin(plan_request(tip(0.44, 0.0, 0.2), tip(0.5, 0.0, 0.2)))
    assert len(answer(planning).waypoints) > 2


@pytest.mark.parametrize(
    'wrong, why',
    [
        ({'urdf': ''}, 'parameter `robot_description`: is empty'),
        ({'urdf': '<robot name="x"/>'}, 'robot_description: is no URDF'),
        ({'kind': 'moveit'}, 'moveit_py: is not installed'),
    ],
)
def test_a_planner_that_cannot_be_is_one_clear_line(wrong, why, monkeypatch):
    for name in [n for n in sys.modules if n.split('.')[0] == 'moveit']:
        monkeypatch.delitem(sys.modules, name)  # what stands in for it elsewhere
    with pytest.raises(InputError) as error:
        make_planner(replace(settings('ompl'), **wrong))
    assert str(error.value).startswith(why) and '\n' not in str(error.value)


def test_the_line_crosses_the_processes():
    with pytest.raises(InputError, match='parameter `robot_description`: is empty'):
        PlannerProcess(replace(settings('ompl'), urdf=''))
