# SPDX-License-Identifier: Apache-2.0
"""The Gazebo cell as far as it can be tried without Gazebo: valid SDF, MuJoCo's socket, an arm that holds."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from q2rl_bringup.robot_description import robot_urdf
from q2rl_bringup.robots import ROBOTS
from q2rl_sim.gazebo_world import SEAT_TOPIC, SYSTEMS, main, world_sdf
from q2rl_sim.scene import build_scene
from q2rl_sim.socket_parts import stand
from q2rl_task import InputError, load_task

TASKS = {
    'panda': load_task('pipe_assembly'),
    'fr3': load_task('pipe_assembly_fr3'),
    'ur5e': load_task('pipe_assembly_ur5e'),
}
HAS_SDF = shutil.which('ign') or shutil.which('gz')
HOLD_S = 2.0


def world(task):
    return ElementTree.fromstring(world_sdf(task)).find('world')


def placed(text):
    """Return position (3,) and rotation of an SDF pose."""
    numbers = [float(word) for word in text.split()]
    return np.array(numbers[:3]), Rotation.from_euler('xyz', numbers[3:])


def boxes(task, kind):
    """Return the boxes of all static models: (name, half sizes, position, rotation) in the world frame."""
    found = []
    for model in world(task).findall('model'):
        assert model.find('static').text == 'true'
        origin, turn = placed(model.find('pose').text)
        for part in model.find('link').findall(kind):
            position, rotation = placed(part.find('pose').text)
            half = np.array([float(v) for v in part.find('geometry/box/size').text.split()]) / 2.0
            place = origin + turn.apply(position)
            found.append((f'{model.get("name")}/{part.get("name")}', half, place, turn * rotation))
    return found


def test_the_world_has_what_the_robot_and_the_scene_node_rely_on():
    task = TASKS['panda']
    described = world(task)
    assert described.get('name') == task.name
    loaded = {p.get('filename'): p.get('name') for p in described.findall('plugin')}
    assert loaded == SYSTEMS and 'gz-sim-forcetorque-system' in loaded
    sensor = described.find("model[@name='socket']//sensor[@type='contact']")
    assert sensor.find('topic').text == SEAT_TOPIC
    collisions = {c.get('name') for c in described.find("model[@name='socket']").iter('collision')}
    assert sensor.find('contact/collision').text in collisions


def test_the_socket_is_that_of_the_mujoco_scene():
    task = TASKS['panda']
    model = build_scene(task).model
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    body = model.body('fixture').id
    theirs = sorted(
        (*data.geom_xpos[g].round(6), *model.geom_size[g].round(6))
        for g in range(model.ngeom)
        if model.geom_bodyid[g] == body and model.geom_conaffinity[g]
    )
    ours = sorted(
        (*place.round(6), *half.round(6))
        for name, half, place, _ in boxes(task, 'collision')
        if name.startswith('socket/')
    )
    assert len(ours) == len(theirs) > 20
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize('name', TASKS)
def test_the_stand_is_on_the_table(name):
    task = TASKS[name]
    table = next(row for row in boxes(task, 'collision') if row[0] == 'table/top')
    foot = next(row for row in boxes(task, 'visual') if row[0] == 'socket/stand_visual')
    assert foot[2][2] - stand().half[2] == pytest.approx(table[2][2] + table[1][2], abs=1e-6)


def test_a_task_without_a_gazebo_world_is_refused_in_one_line(capsys):
    with pytest.raises(InputError, match='has no Gazebo world'):
        world_sdf(load_task('kitting'))
    assert main(['kitting']) == 2 and capsys.readouterr().err.count('\n') == 1


@pytest.mark.skipif(
    not HAS_SDF, reason='no SDF checker: apt install ignition-tools libsdformat-dev'
)
@pytest.mark.parametrize('name', TASKS)
def test_sdformat_accepts_the_world_and_the_robot_and_keeps_the_force_sensor(name, tmp_path):
    program = [HAS_SDF, 'sdf']
    task = TASKS[name]
    (tmp_path / 'world.sdf').write_text(world_sdf(task))
    (tmp_path / 'robot.urdf').write_text(robot_urdf(task, ROBOTS[name], 'gazebo'))
    for file in ('world.sdf', 'robot.urdf'):
        done = run(*program, '--check', tmp_path / file)
        assert done.returncode == 0 and 'Valid.' in done.stdout, done.stdout + done.stderr
    sdf = run(*program, '--print', tmp_path / 'robot.urdf').stdout
    model = ElementTree.fromstring(sdf[sdf.index('<sdf') :]).find('model')
    assert {*ROBOTS[name].joints, 'pipe_joint'} <= {j.get('name') for j in model.findall('joint')}
    sensor = model.find("joint[@name='pipe_joint']/sensor")
    # gz_ros2_control finds it by the name that ros2_control has for it.
    described = ElementTree.parse(tmp_path / 'robot.urdf').find('ros2_control/sensor')
    assert sensor.get('name') == described.get('name')
    assert [float(v) for v in sensor.find('pose').text.split()] == [0, 0, 0.09, 0, 0, 0]
    assert 'gz_ros2_control' in model.find('plugin').get('filename')


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def cell_model(name):
    """Compile robot and world into one MuJoCo model: the very descriptions that Gazebo gets, meshes apart."""
    task = TASKS[name]
    robot = ElementTree.fromstring(robot_urdf(task, ROBOTS[name], 'gazebo'))
    for link in robot.iter('link'):
        for part in (*link.findall('visual'), *link.findall('collision')):
            if part.find('geometry/mesh') is not None:
                link.remove(part)
    extension = ElementTree.SubElement(robot, 'mujoco')
    ElementTree.SubElement(extension, 'compiler', fusestatic='false')
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(robot, encoding='unicode'))
    spec.option.timestep = 0.001
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for part, half, place, turn in boxes(task, 'collision'):
        x, y, z, w = turn.as_quat()
        spec.worldbody.add_geom(
            name=part, type=mujoco.mjtGeom.mjGEOM_BOX, size=half, pos=place, quat=[w, x, y, z]
        )
    homes = {}
    for joint in robot.find('ros2_control').findall('joint'):
        homes[joint.get('name')] = float(joint.find("state_interface[@name='position']/param").text)
        servo = spec.add_actuator(
            name=joint.get('name'), trntype=mujoco.mjtTrn.mjTRN_JOINT, target=joint.get('name')
        )
        servo.set_to_position(kp=20000.0, kv=400.0)
        limit = next(j for j in robot.findall('joint') if j.get('name') == joint.get('name'))
        effort = float(limit.find('limit').get('effort'))
        servo.forcelimited, servo.forcerange = True, [-effort, effort]
    return spec.compile(), homes


@pytest.mark.parametrize('name', TASKS)
def test_the_arm_stands_still_under_gravity_with_its_position_commands_held(name):
    model, homes = cell_model(name)
    data = mujoco.MjData(model)
    for joint, home in homes.items():
        data.joint(joint).qpos = home
        data.actuator(joint).ctrl = home
    mujoco.mj_forward(model, data)
    start = data.body(TASKS[name].frames.tip).xpos.copy()
    for _ in range(round(HOLD_S / model.opt.timestep)):
        mujoco.mj_step(model, data)
    assert np.isfinite(data.qpos).all()
    assert np.abs(data.qvel).max() < 1e-3
    # Held within its effort limits: no joint sags, and nothing of the arm is in the table or the socket.
    assert np.abs(data.body(TASKS[name].frames.tip).xpos - start).max() < 5e-3
    world_body = 0
    touching = [
        (model.geom(pair.geom1).name, model.geom(pair.geom2).name)
        for pair in data.contact
        if world_body in (model.geom_bodyid[pair.geom1], model.geom_bodyid[pair.geom2])
    ]
    assert not touching
