# SPDX-License-Identifier: Apache-2.0
"""A wrench measured elsewhere, brought to the tip: numbers worked out by hand, and links of a real description."""

from __future__ import annotations

import numpy as np
import pytest

from q2rl_control.frame_tree import FrameTree
from q2rl_control.wrench_frames import WrenchFrames, moved
from q2rl_task import Pose

QUARTER = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))
DOWN = Pose.of([0.5, 0.0, 0.3], [1.0, 0.0, 0.0, 0.0])
"""A tip half a metre in front of the base, its z down."""
PUSHED_SIDEWAYS = np.array([10.0, 0.0, 0.0, 0.0, 1.0, 0.0])
"""What a sensor 0.1 m behind the tip says to 10 N at the tip, along x: 1 Nm about y, and none of it at the tip."""


def not_asked() -> Pose:
    raise AssertionError('this wrench needs no pose of the tip')


class Links:
    """A description with a sensor 0.1 m behind the tip, and a foot turned against the base."""

    def __init__(self) -> None:
        self.asked = 0

    def in_tip(self, name):
        self.asked += 1
        return Pose.of([0.0, 0.0, -0.1]) if name == 'sensor' else None

    def in_base(self, name):
        return Pose.of([0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]) if name == 'foot' else None


def test_a_push_at_the_tip_has_no_torque_there_whatever_the_sensor_behind_it_says():
    np.testing.assert_allclose(
        moved(PUSHED_SIDEWAYS, Pose.of([0.0, 0.0, -0.1])), [10.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    )


def test_axes_turn_and_the_lever_adds_its_torque():
    # x of the sensor is y of the tip; p x f = (0.1, 0, 0) x (-2, 1, 3) = (0, -0.3, 0.1).
    place = Pose.of([0.1, 0.0, 0.0], QUARTER)
    wrench = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6])
    np.testing.assert_allclose(moved(wrench, place), [-2.0, 1.0, 3.0, -0.5, 0.1, 0.7])
    np.testing.assert_allclose(
        moved(wrench, place, turned_only=True), [-2.0, 1.0, 3.0, -0.5, 0.4, 0.6]
    )


def test_there_and_back_is_the_same_and_power_does_not_depend_on_the_place():
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = Pose.of(rng.normal(size=3), rng.normal(size=4))
        wrench, twist = rng.normal(size=6), rng.normal(size=6)
        there = moved(wrench, place)
        np.testing.assert_allclose(moved(there, place.inverse()), wrench, atol=1e-12)
        # A body that moves by `twist` (of the sensor's origin, sensor axes) takes up the same power at both places.
        turn = place.rotation
        angular = turn.apply(twist[3:])
        linear = turn.apply(twist[:3]) + np.cross(angular, -place.position)
        assert there[:3] @ linear + there[3:] @ angular == pytest.approx(wrench @ twist)


def test_a_wrench_at_the_tip_passes_untouched_to_the_last_bit():
    wrench = np.random.default_rng(1).normal(size=6)
    for name in ('tip', '/tip'):
        assert WrenchFrames('base', 'tip').at_tip(name, wrench, not_asked) is wrench


def test_a_wrench_in_the_base_frame_is_turned_by_the_measured_pose():
    # 10 N up from the table at the tip: r x f = (0.5, 0, 0.3) x (0, 0, 10) = (0, -5, 0) about the base's origin.
    at_tip = WrenchFrames('base', 'tip').at_tip(
        'base', np.array([0, 0, 10.0, 0, -5.0, 0]), lambda: DOWN
    )
    np.testing.assert_allclose(at_tip, [0.0, 0.0, -10.0, 0.0, 0.0, 0.0], atol=1e-12)
    axes_only = WrenchFrames('base', 'tip', about_tip=True)
    np.testing.assert_allclose(
        axes_only.at_tip('base', np.array([0, 0, 10.0, 0, 0.2, 0]), lambda: DOWN),
        [0.0, 0.0, -10.0, 0.0, -0.2, 0.0],
        atol=1e-12,
    )
    with pytest.raises(LookupError, match='no pose of the tip'):
        axes_only.at_tip('base', np.zeros(6), lambda: None)


def test_links_of_the_description_are_looked_up_once():
    links = Links()
    frames = WrenchFrames('base', 'tip', links)
    for _ in range(3):
        at_tip = frames.at_tip('sensor', PUSHED_SIDEWAYS, not_asked)
        np.testing.assert_allclose(at_tip, [10.0, 0, 0, 0, 0, 0], atol=1e-12)
    assert links.asked == 1
    # The foot is turned half round against the base: what it calls x is the base's -x.
    np.testing.assert_allclose(
        frames.at_tip('foot', np.array([1.0, 0, 0, 0, 0, 0]), lambda: DOWN)[:3],
        [-1.0, 0, 0],
        atol=1e-12,
    )


def test_tf_knows_what_the_description_does_not():
    tree = FrameTree()
    frames = WrenchFrames('base', 'tip', Links(), tree)
    with pytest.raises(LookupError, match=r"'cell'.*robot_description"):
        frames.at_tip('cell', np.zeros(6), not_asked)
    tree.set('flange', 'tip', Pose.of([0.0, 0.0, 0.3]), None)
    tree.set('flange', 'cell', Pose.of([0.0, 0.0, 0.2]), None)
    at_tip = frames.at_tip('cell', PUSHED_SIDEWAYS, not_asked)
    np.testing.assert_allclose(at_tip, [10.0, 0, 0, 0, 0, 0], atol=1e-12)


def test_the_error_is_one_line_that_names_the_frame_and_what_to_do():
    with pytest.raises(LookupError) as caught:
        WrenchFrames('base', 'tip').at_tip('tool0', np.zeros(6), lambda: DOWN)
    said = str(caught.value)
    assert "'tool0'" in said and 'robot_description' in said and '\n' not in said


def test_links_of_the_real_arm_are_rigid_with_its_tip_or_its_base_or_neither():
    pytest.importorskip('pinocchio', reason='needs Pinocchio')
    from panda_arm import BASE, TIP, panda_urdf

    from q2rl_control.rigid_frames import RigidFrames
    from q2rl_task import InputError

    links = RigidFrames(panda_urdf(), BASE, TIP)
    # The hand is screwed to link 8 turned by an eighth about z, 107 mm from the seventh joint.
    np.testing.assert_allclose(links.in_tip('panda_link7').position, [0, 0, -0.107], atol=1e-9)
    at_tip = WrenchFrames(BASE, TIP, links).at_tip(
        'panda_link8', np.array([10.0, 0, 0, 0, 0, 0]), not_asked
    )
    np.testing.assert_allclose(at_tip, [np.sqrt(50), np.sqrt(50), 0, 0, 0, 0], atol=1e-6)
    assert links.in_base('panda_link8') is None and links.in_tip('panda_leftfinger') is None
    assert links.in_tip('panda_link5') is None and links.in_base('panda_link5') is None
    assert links.in_base(BASE).distance_to(Pose.of([0, 0, 0])) == (0.0, 0.0)
    assert links.in_tip('no_such_link') is None
    with pytest.raises(InputError, match='no_tip'):
        RigidFrames(panda_urdf(), BASE, 'no_tip')
