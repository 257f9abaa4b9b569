# SPDX-License-Identifier: Apache-2.0
"""One description of the robot: what RViz shows is what the simulation simulates."""

from pathlib import Path
from urllib.parse import urlparse
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest

from q2rl_bringup.robot_description import main, robot_urdf
from q2rl_sim.scene import build_scene
from q2rl_task import InputError, load_task

JOINTS = [f'panda_joint{k}' for k in range(1, 8)]


@pytest.fixture(scope='module')
def task():
    return load_task('pipe_assembly')


@pytest.fixture(scope='module')
def robot(task):
    return ElementTree.fromstring(robot_urdf(task))


@pytest.fixture(scope='module')
def described(task):
    """The description compiled by MuJoCo, without its meshes."""
    robot = ElementTree.fromstring(robot_urdf(task))
    for link in robot.iter('link'):
        for part in (*link.findall('visual'), *link.findall('collision')):
            link.remove(part)
        mass = link.find('inertial/mass')
        if mass is not None and float(mass.get('value')) == 0.0:
            link.remove(link.find('inertial'))
    extension = ElementTree.SubElement(robot, 'mujoco')
    options = {'balanceinertia': 'true', 'fusestatic': 'false'}
    ElementTree.SubElement(extension, 'compiler', options)
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(robot, encoding='unicode'))


def test_the_tip_is_where_the_simulation_has_it_at_any_joint_position(task, described):
    simulated = build_scene(task).model
    rng = np.random.default_rng(1)
    ours, theirs = mujoco.MjData(described), mujoco.MjData(simulated)
    for _ in range(20):
        for name in JOINTS:
            low, high = simulated.joint(name).range
            angle = rng.uniform(low, high)
            ours.joint(name).qpos = theirs.joint(name).qpos = angle
        mujoco.mj_kinematics(described, ours)
        mujoco.mj_kinematics(simulated, theirs)
        tip = ours.body(task.frames.tip)
        site = theirs.site('tip')
        np.testing.assert_allclose(tip.xpos, site.xpos, atol=1e-9)
        np.testing.assert_allclose(tip.xmat, site.xmat, atol=1e-9)
        np.testing.assert_allclose(ours.body('pipe').xpos, theirs.site('mount').xpos, atol=1e-9)


def test_joint_limits_and_the_pipe_weigh_the_same_as_in_the_simulation(task, described):
    simulated = build_scene(task).model
    assert [described.joint(k).name for k in range(described.njnt)] == JOINTS
    for name in JOINTS:
        np.testing.assert_allclose(described.joint(name).range, simulated.joint(name).range)
    assert described.body('pipe').mass[0] == pytest.approx(simulated.body('pipe').mass[0])
    np.testing.assert_allclose(
        np.sort(described.body('pipe').inertia), np.sort(simulated.body('pipe').inertia), rtol=1e-9
    )


def test_the_pipe_has_the_radius_of_the_task(task, robot):
    for cylinder in robot.findall("link[@name='pipe']//cylinder"):
        assert float(cylinder.get('radius')) == task.fixture.insert_radius_m


def test_the_frames_of_the_task_are_links_of_one_tree(task, robot):
    links = {link.get('name') for link in robot.findall('link')}
    parents = {
        j.find('child').get('link'): j.find('parent').get('link') for j in robot.findall('joint')
    }
    assert {task.frames.base, task.frames.tip} <= links
    assert links - set(parents) == {task.frames.base}
    assert parents[task.frames.tip] == 'pipe'


def test_every_mesh_is_a_file_that_exists(robot):
    meshes = [mesh.get('filename') for mesh in robot.iter('mesh')]
    assert len(meshes) > 15
    for uri in meshes:
        parts = urlparse(uri)
        assert parts.scheme == 'file' and Path(parts.path).is_file()


def test_a_task_of_another_robot_is_refused(task):
    other = task.model_copy(update={'frames': task.frames.model_copy(update={'base': 'base_link'})})
    with pytest.raises(InputError, match='not the base of the panda'):
        robot_urdf(other)


def test_the_description_prints_itself(capsys):
    assert main(['pipe_assembly']) == 0
    assert ElementTree.fromstring(capsys.readouterr().out).get('name') == 'pipe_panda'
    assert main(['no_such_task']) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_a_task_with_a_gripper_gets_moving_fingers_and_no_pipe():
    kitting = load_task('kitting')
    robot = ElementTree.fromstring(robot_urdf(kitting))
    kinds = {joint.get('name'): joint.get('type') for joint in robot.findall('joint')}
    assert all(kinds[name] == 'prismatic' for name in kitting.gripper.joints)
    links = [link.get('name') for link in robot.findall('link')]
    assert 'pipe' not in links and links.count(kitting.frames.tip) == 1
    tip = next(
        j for j in robot.findall('joint') if j.find('child').get('link') == kitting.frames.tip
    )
    assert tip.find('origin').get('xyz').split()[2] == '0.1034'
    assert tip.find('parent').get('link') == 'panda_hand'
