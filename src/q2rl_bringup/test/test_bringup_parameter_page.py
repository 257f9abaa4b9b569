# SPDX-License-Identifier: Apache-2.0
"""docs/parameters.md says what the nodes declare."""

from pathlib import Path

import pytest

from q2rl_bringup.arguments import ARGUMENTS
from q2rl_bringup.parameter_page import parameter_page
from q2rl_lab.ros_environment import Domain

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'parameters.md'


@pytest.fixture(scope='module')
def page():
    held = Domain()
    yield parameter_page(held.number)
    held.release()


@pytest.mark.skipif(not PAGE.is_file(), reason='the source tree is not here')
def test_the_page_is_current(page):
    assert PAGE.read_text() == page, 'make it anew: see its second line'


def test_the_page_names_every_argument_and_node_and_explains_all(page):
    assert all(f'| `{argument.name}` |' in page for argument in ARGUMENTS)
    for node in (
        'arm_interface',
        'mujoco_arm',
        'gazebo_scene',
        'tip_state',
        'learner',
        'scene_view',
        'operator_view',
        'teleop',
        'demonstration_recorder',
        'transition_recorder',
    ):
        assert f'## {node} (' in page
    rows = [line for line in page.splitlines() if line.startswith('| `')]
    assert all(row.rstrip('| ').endswith('.') for row in rows)
    assert '| `autostart` | bool | `true` |' in page


def test_the_page_marks_what_a_file_cannot_set(page):
    lines = page.splitlines()
    marked = {line.split('`')[1] for line in lines if line.endswith('Set by the start. |')}
    assert {'task', 'seed', 'alpha', 'evaluation_modes', 'hold_at_start', 'rollouts'} <= marked
    # Nobody sets these, or only some starts do.
    assert not {'bc_only_every', 'margin', 'tare', 'robot_description', 'target_rate'} & marked
