# SPDX-License-Identifier: Apache-2.0
"""Moving a model in a running Gazebo, by its own command line: `gz service`.

Only later releases of ros_gz_bridge for Jazzy can bridge that service; the tool comes with every Harmonic.
"""

from __future__ import annotations

from pathlib import Path
import shutil
import subprocess

from q2rl_task import Pose

TIMEOUT_S = 5.0


class GazeboError(Exception):
    """Gazebo did not do what it was asked; the text says why."""


def set_model_pose(world: str, model: str, pose: Pose) -> None:
    """Place `model` of `world`; returns when Gazebo has accepted it.

    :raises GazeboError: no `gz`, no answer in time, or a refusal
    """
    program = shutil.which('gz')
    if program is None:
        raise GazeboError('the command gz is not there')
    command = [
        program, 'service', '-s', f'/world/{world}/set_pose', '--reqtype', 'gz.msgs.Pose',
        '--reptype', 'gz.msgs.Boolean', '--timeout', str(int(1000 * TIMEOUT_S)),
        '--req', pose_request(model, pose),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=2.0 * TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise GazeboError(f'{Path(program).name} service does not return') from None
    if done.returncode != 0 or 'data: true' not in done.stdout:
        answer = ' '.join((done.stdout + done.stderr).split())
        raise GazeboError(f'set_pose of {model} in {world}: {answer or "no answer"}')


def pose_request(model: str, pose: Pose) -> str:
    """Return a gz.msgs.Pose in protobuf's text format."""
    x, y, z = (f'{value:.9g}' for value in pose.position)
    qx, qy, qz, qw = (f'{value:.9g}' for value in pose.quaternion)
    return (
        f'name: "{model}" position {{x: {x} y: {y} z: {z}}} '
        f'orientation {{x: {qx} y: {qy} z: {qz} w: {qw}}}'
    )
