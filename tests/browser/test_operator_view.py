# SPDX-License-Identifier: Apache-2.0
"""A person sees the arm in a browser and stops it there: real processes, real DDS, a real browser."""

from __future__ import annotations

from io import BytesIO
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

from geometry_msgs.msg import PoseStamped
import numpy as np
from PIL import Image
import pytest
import rclpy
from std_srvs.srv import Trigger

sys.path.insert(0, str(Path(__file__).parent))
from chromium import CHROMIUM, Chromium
from spun_node import SpunNode

from q2rl_bringup.node_graph import build_graph
from q2rl_bringup.share import share_path
from q2rl_lab.ros_environment import Domain, node_environment
from q2rl_lab.up_run import program
from q2rl_msgs.msg import ArmStatus, EpisodeSummary, GateDecision, GuardState, Observation, RunState
from q2rl_msgs.srv import PrepareScene, StartEpisode
from q2rl_ros.conversions import decision_to_msg, observation_from_msg
from q2rl_ros.qos import profiles
from q2rl_ros.testing import free_port
import q2rl_task
from q2rl_task import Decision, Mode, Phase, Reason, Source, load_task

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium (apt install chromium)'),
    pytest.mark.timeout(300),
]
TASKS = Path(q2rl_task.__file__).parent / 'tasks'
WAIT_S = 90.0
STILL_M = 5e-4
SHARE_OF_STEP = 0.3


class Cell:
    """Arm, arm interface and page as processes; the test plays the gate and the episode manager."""

    def __init__(self, folder: Path) -> None:
        # An episode that does not end before the person has pressed the button, and an arm that is not held up, nor
        # its episode ended, where the machine is so busy that sensors are late.
        task_file = folder / 'long_pipe_assembly.yaml'
        text = (TASKS / 'pipe_assembly.yaml').read_text()
        for usual, wanted in (
            ('max_steps: 100', 'max_steps: 100000'),
            ('observation_max_age_s: 0.1', 'observation_max_age_s: 2.0'),
        ):
            assert usual in text
            text = text.replace(usual, wanted)
        task_file.write_text(text)
        parameters = share_path('config/q2rl.params.yaml').read_text()
        assert 'lost_after: 1.0 ' in parameters
        params_file = folder / 'patient.params.yaml'
        params_file.write_text(parameters.replace('lost_after: 1.0 ', 'lost_after: 60.0 '))
        self.task = load_task(str(task_file))
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen] = {}
        self._domain = Domain()
        self._log = (folder / 'nodes.log').open('wb')
        graph = build_graph(
            {
                'task': str(task_file),
                'params_file': str(params_file),
                'lockstep': 'false',
                'run_dir': str(folder / 'run'),
                'browser': 'true',
                'browser_port': self.port,
            }
        )
        environment = {**node_environment(self._domain.number), 'XDG_STATE_HOME': str(folder)}
        for node in graph.nodes:
            if node.name in ('mujoco_arm', 'arm_interface', 'operator_view'):
                file = folder / f'{node.name}.yaml'
                file.write_text(graph.parameter_file(node))
                self.processes[node.name] = subprocess.Popen(
                    [*program(node.package, node.executable), *graph.command_line(node, file)],
                    env=environment,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                )
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        rclpy.init(args=[], domain_id=self._domain.number)
        self._listen()
        self._spun = SpunNode(self.node)

    def _listen(self) -> None:
        self.node = rclpy.create_node('person')
        qos = profiles(False, self.task.period_s)
        self.poses: list[np.ndarray] = []
        self.guard = GuardState()
        self.arm = ArmStatus()
        self.decided = 0
        listen = self.node.create_subscription
        listen(PoseStamped, 'current_pose', self._on_pose, qos.sensors)
        listen(GuardState, 'guard_state', lambda msg: setattr(self, 'guard', msg), qos.latched)
        listen(ArmStatus, 'arm_status', lambda msg: setattr(self, 'arm', msg), qos.latched)
        listen(Observation, 'observation', self._on_observation, qos.tick)
        self._decision = self.node.create_publisher(GateDecision, 'gate_decision', qos.tick)
        self.run = self.node.create_publisher(RunState, 'run_state', qos.latched)
        self.episodes = self.node.create_publisher(EpisodeSummary, 'episode_summary', qos.events)

    def _on_pose(self, msg: PoseStamped) -> None:
        point = msg.pose.position
        self.poses.append(np.array([point.x, point.y, point.z]))

    def _on_observation(self, msg: Observation) -> None:
        """Decide like a gate between two policies that want to and fro, RL's way being better."""
        record = observation_from_msg(msg, self.task)
        way = SHARE_OF_STEP if record.step // 10 % 2 == 0 else -SHARE_OF_STEP
        rl = np.array([way, 0, 0, 0, 0, 0], np.float32)
        bc = np.array([0, way, 0, 0, 0, 0], np.float32)
        decision = Decision(
            Source.RL, Reason.RL_HIGHER, rl, q_bc=-9.25, q_rl=-7.5, bc_action=bc, rl_action=rl
        )
        self._decision.publish(decision_to_msg(decision, record))
        self.decided += 1

    def until(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            for name, process in self.processes.items():
                assert process.poll() is None, f'{name} ended'
            assert time.monotonic() < end, f'{what}: not within {WAIT_S} s'
            time.sleep(0.02)

    def call(self, kind: type, name: str, request):
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f'service {name}')
        future = client.call_async(request)
        self.until(future.done, f'answer of {name}')
        return future.result()

    def begin_episode(self) -> None:
        def retreated() -> bool:
            return self.call(Trigger, 'arm_interface/retreat', Trigger.Request()).success

        self.until(retreated, 'retreat')
        self.until(lambda: self.arm.state == ArmStatus.READY, 'clear of the socket')
        scene = self.call(
            PrepareScene, 'prepare_scene', PrepareScene.Request(episode='run-e1', seed=3)
        )
        assert scene.success, scene.message
        request = StartEpisode.Request(
            episode='run-e1', mode=int(Mode.GATED), seed=3, estimate=scene.estimate
        )
        answer = self.call(StartEpisode, 'arm_interface/start_episode', request)
        assert answer.success, answer.message
        self.until(lambda: self.decided > 20, 'decisions')

    def serves(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0

    def travelled(self, poses: int) -> float:
        """Return how far the tip went over the next so many readings [m]."""
        start = len(self.poses)
        self.until(lambda: len(self.poses) >= start + poses, 'readings')
        return float(np.ptp(self.poses[start : start + poses], axis=0).max())

    def close(self) -> None:
        self._spun.close()
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(10.0)
        self._log.close()
        self._domain.release()


@pytest.fixture
def cell(tmp_path):
    made = Cell(tmp_path)
    yield made
    made.close()


def test_a_person_sees_the_arm_in_the_browser_and_stops_it_there(cell, tmp_path):
    cell.run.publish(RunState(phase=Phase.ONLINE, online_steps=1200, online_steps_planned=10000))
    cell.until(cell.serves, 'the page')
    cell.begin_episode()
    browser = Chromium(f'http://127.0.0.1:{cell.port}', width=1000, height=600)
    try:
        browser.until(lambda: 'ACTING' in browser.text(), 'the guard acts')
        cell.until(cell.episodes.get_subscription_count, 'the page to listen')
        for number in range(16):
            cell.episodes.publish(EpisodeSummary(episode=f'run-e{number}', success=number % 5 > 0))
        said = ('online 1200 of 10000', 'RL (rl higher)', '-7.50', '-9.25', '12 of the last 16')
        browser.until(lambda: all(word in browser.text() for word in said), 'what is going on')
        browser.evaluate("document.querySelector('.mantine-Notification-closeButton')?.click()")
        look_at(browser, Path(os.environ.get('Q2RL_PICTURES', tmp_path)) / 'operator-view.png')
        assert [letters_cut_off(browser, panel) for panel in (384, 320, 256)] == [0, 0, 0]
        cell.until(lambda: cell.travelled(poses=30) > STILL_M, 'a motion to stop')

        browser.press('EMERGENCY STOP')
        cell.until(lambda: cell.guard.emergency_stop, 'the stop')
        assert cell.guard.state == GuardState.STOPPED
        browser.until(lambda: 'STOPPED' in browser.text(), 'word of the stop')
        cell.until(lambda: cell.travelled(poses=10) < STILL_M, 'standstill')
        assert cell.travelled(poses=30) < STILL_M

        browser.press('Release')
        browser.until(lambda: 'refused' in browser.text(), 'a refusal')
        assert cell.guard.emergency_stop
        browser.press('Reset emergency stop')
        cell.until(lambda: not cell.guard.emergency_stop and cell.guard.held, 'a hold')
        browser.press('Release')
        cell.until(lambda: not cell.guard.held, 'the release')
        browser.press('Hold')
        cell.until(lambda: cell.guard.held, 'the hold')
        browser.press('Pause')
        browser.until(lambda: 'NO ANSWER' in browser.text(), 'word of a service that is not there')

        own = (f'http://127.0.0.1:{cell.port}', 'data:', 'blob:')
        assert browser.requested and all(url.startswith(own) for url in browser.requested)
    finally:
        browser.close()
    # The page may die: the arm does not notice.
    cell.processes.pop('operator_view').send_signal(signal.SIGKILL)
    cell.travelled(poses=10)
    assert cell.call(Trigger, 'arm_interface/emergency_stop', Trigger.Request()).success


def letters_cut_off(browser: Chromium, panel: int) -> int:
    """Return by how many pixels the stop button's label exceeds its place, in a panel of this width [px]."""
    return browser.evaluate(f"""(() => {{
        const button = [...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'EMERGENCY STOP');
        const label = button.querySelector('.mantine-Button-label');
        button.parentElement.style.width = '{panel - 18}px';
        const over = [label.scrollWidth - label.clientWidth, label.scrollHeight - label.clientHeight];
        button.parentElement.style.width = '';
        return Math.max(0, ...over);
    }})()""")


def look_at(browser: Chromium, file: Path) -> None:
    """Keep a picture of the page once the arm is drawn: its white and its shadows on the left of it."""

    file.parent.mkdir(parents=True, exist_ok=True)

    def drawn() -> bool:
        file.write_bytes(browser.picture())
        left = np.asarray(Image.open(BytesIO(file.read_bytes())).convert('L'))[:, :600]
        return (left < 200).mean() > 0.03

    browser.until(drawn, 'an arm')
