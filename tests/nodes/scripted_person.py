# SPDX-License-Identifier: Apache-2.0
"""A person at the lever as a script: towards the estimated socket and in, by what an observation shows."""

from __future__ import annotations

import time

import numpy as np
from rclpy.node import Node
import yaml

from q2rl_control.arm_state import ArmState
from q2rl_msgs.msg import ArmStatus, HumanAction, Observation
from q2rl_ros.conversions import observation_from_msg
from q2rl_ros.qos import profiles
from q2rl_ros.stamps import stamp_to_msg
from q2rl_task import TaskSpec, load_task

HOVER_M = 0.004
OVER_THE_HOLE_M = 0.0007
SPEED = 0.8
GAIN = 0.4
"""Share of the way per action: in real time an action is seen to work only two ticks later."""


def well_estimated_task(path) -> TaskSpec:
    """Write a pipe task whose socket is where it is believed to be, for whoever cannot search; return it."""
    content = load_task('pipe_assembly').model_dump(mode='json')
    content['name'] = 'pipe_well_estimated'
    content['fixture'] |= {'estimate_error_m': 0.0, 'estimate_error_deg': 0.0}
    path.write_text(yaml.safe_dump(content))
    return load_task(str(path))


def action_for(task: TaskSpec, observation: np.ndarray) -> np.ndarray:
    """Return the action (D,) of a person who sees `observation` of a pipe task."""
    seen, at = {}, 0
    for field in task.observation.fields:
        size = 1 if field.name == 'elapsed' else 3
        seen[field.name] = observation[at : at + size] * field.scale
        at += size
    commanded = seen['tip_position'] + seen['lead_position']
    wanted = np.array([0.0, 0.0, -HOVER_M])
    if np.linalg.norm(commanded[:2]) < OVER_THE_HOLE_M and commanded[2] > -2 * HOVER_M:
        wanted[2] = seen['tip_position'][2] + 0.008
    action = np.zeros(task.action_size, dtype=np.float32)
    action[:3] = GAIN * (wanted - commanded) / task.action.translation_m
    action[3:6] = -GAIN * (seen['tip_rotation'] + seen['lead_rotation']) / task.action.rotation_rad
    return np.clip(action, -SPEED, SPEED)


class ScriptedPerson:
    """Takes the lever when the arm is at a start pose, and answers each observation with an action.

    :param node: any node; its executor is spun elsewhere
    :param present: whether the person touches the lever
    """

    def __init__(self, node: Node, task: TaskSpec, lockstep: bool) -> None:
        qos = profiles(lockstep, task.period_s)
        self.task, self.present = task, True
        self.episodes: list[str] = []
        self._may_begin = False
        self._said = 0.0
        self._out = node.create_publisher(HumanAction, 'human_action', qos.sensors)
        node.create_subscription(ArmStatus, 'arm_status', self._on_status, qos.latched)
        node.create_subscription(Observation, 'observation', self._on_observation, qos.tick)
        node.create_timer(0.02, self._take_the_lever)

    def _on_status(self, msg: ArmStatus) -> None:
        self._may_begin = msg.state == ArmState.RESETTING and 'may begin' in msg.detail

    def _on_observation(self, msg: Observation) -> None:
        record = observation_from_msg(msg, self.task)
        if record.episode not in self.episodes:
            self.episodes.append(record.episode)
        self._may_begin = False
        if self.present and not record.final:
            self._act(action_for(self.task, record.observation))

    def _take_the_lever(self) -> None:
        if self.present and self._may_begin:
            self._act(np.zeros(self.task.action_size, dtype=np.float32))

    def _act(self, action: np.ndarray) -> None:
        # Stamps must grow; the clock of a simulation that waits for the person stands still.
        self._said = max(time.time(), self._said + 1e-6)
        msg = HumanAction(contract=self.task.contract_hash, action=action.tolist())
        msg.header.stamp = stamp_to_msg(self._said)
        self._out.publish(msg)
