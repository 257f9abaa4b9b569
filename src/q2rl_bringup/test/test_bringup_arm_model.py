# SPDX-License-Identifier: Apache-2.0
"""The arm on the page stands where the simulated one stands."""

import mujoco
import numpy as np
import pytest

from q2rl_bringup.arm_model import Cylinder, read_arm
from q2rl_bringup.robot_description import robot_urdf
from q2rl_sim.panda import ARM_JOINTS
from q2rl_sim.scene import build_scene
from q2rl_sim.scenes.pipe_assembly import PIPE_LENGTH_M
from q2rl_task import InputError, load_task

CHAIN = """<robot name="r"><link name="a"/><link name="b"/><link name="c"/><link name="d"/>
<joint name="ab" type="prismatic"><parent link="a"/><child link="b"/><origin xyz="1 0 0"/><axis xyz="0 0 1"/></joint>
<joint name="ac" type="prismatic"><parent link="a"/><child link="c"/><axis xyz="0 1 0"/>
<mimic joint="ab" multiplier="-2" offset="0.5"/></joint>
<joint name="bd" type="fixed"><parent link="b"/><child link="d"/><origin xyz="0 2 0"/></joint></robot>"""


@pytest.fixture(scope='module')
def task():
    return load_task('pipe_assembly')


@pytest.fixture(scope='module')
def arm(task):
    return read_arm(robot_urdf(task))


def test_every_link_is_where_the_simulation_has_it(task, arm):
    model = build_scene(task).model
    data = mujoco.MjData(model)
    rng = np.random.default_rng(3)
    for _ in range(5):
        positions = {name: rng.uniform(*model.joint(name).range) for name in ARM_JOINTS}
        for name, value in positions.items():
            data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        poses = arm.poses(positions)
        for link in [f'panda_link{k}' for k in range(1, 8)]:
            np.testing.assert_allclose(poses[link].position, data.body(link).xpos, atol=1e-9)
            turn = poses[link].rotation.as_matrix().ravel()
            np.testing.assert_allclose(turn, data.body(link).xmat, atol=1e-9)
        np.testing.assert_allclose(
            poses[task.frames.tip].position, data.site('tip').xpos, atol=1e-9
        )


def test_the_arm_has_meshes_and_holds_a_pipe(task, arm):
    meshes = {part.link for part in arm.parts if not isinstance(part.shape, Cylinder)}
    assert {f'panda_link{k}' for k in range(8)} | {'panda_hand'} <= meshes
    pipe = next(part for part in arm.parts if part.link == 'pipe')
    assert pipe.shape.length == PIPE_LENGTH_M and pipe.shape.radius == task.fixture.insert_radius_m
    assert all(len(part.shape.triangles) for part in arm.parts if part is not pipe)


def test_prismatic_fixed_and_mimicking_joints():
    poses = read_arm(CHAIN).poses({'ab': 0.3})
    np.testing.assert_allclose(poses['b'].position, [1.0, 0.0, 0.3])
    np.testing.assert_allclose(poses['c'].position, [0.0, -0.1, 0.0])
    np.testing.assert_allclose(poses['d'].position, [1.0, 2.0, 0.3])


def test_two_trees_are_refused():
    with pytest.raises(InputError, match='2 base links'):
        read_arm('<robot name="r"><link name="a"/><link name="b"/></robot>')
