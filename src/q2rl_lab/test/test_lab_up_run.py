# SPDX-License-Identifier: Apache-2.0
"""Watching a run over real DDS, with one made-up node in the place of the graph."""

from __future__ import annotations

from pathlib import Path
import shlex
import sys
import textwrap
import time

import pytest
import yaml

from q2rl_lab import up_run
from q2rl_lab.run_folder import RunConfig, create_run
from q2rl_lab.run_view import RunView
from q2rl_lab.supervisor import ProcessSpec
from q2rl_lab.up_run import End, node_processes, program, read_session, run_graph
from q2rl_task import InputError, Phase, load_task

MANAGER = """
import os, signal, sys, time
import rclpy
from q2rl_msgs.msg import ArmStatus, EpisodeSummary, LearnerStatus, RunState
from q2rl_msgs.srv import RunCommand
from q2rl_ros.qos import profiles

rclpy.init()
node = rclpy.create_node('made_up')
qos = profiles(True, 0.05)
state_out = node.create_publisher(RunState, 'run_state', qos.latched)
summary_out = node.create_publisher(EpisodeSummary, 'episode_summary', qos.events)
learner_out = node.create_publisher(LearnerStatus, 'learner_status', qos.latched)
arm_out = node.create_publisher(ArmStatus, 'arm_status', qos.latched)
state = RunState(phase=RunState.ONLINE, sequence=10, acknowledged=7)

def publish():
    state_out.publish(state)
    learner_out.publish(LearnerStatus(state=LearnerStatus.TRAINING, gradient_steps=20, online_steps=10))
    arm_out.publish(ArmStatus(rejected=4, counted=['joints_unfollowed'], counts=[3]))

def command(request, response):
    assert request.command == RunCommand.Request.STOP
    print('asked to stop', flush=True)
    state.phase, state.acknowledged = RunState.STOPPED, 10
    publish()
    response.success = True
    return response

node.create_service(RunCommand, 'episode_manager/command', command)
node.create_timer(0.1, publish)

def wait_until_watched():
    while not os.path.exists(sys.argv[1]):
        summary_out.publish(EpisodeSummary(episode='o1', phase=RunState.ONLINE, success=True, steps=10))
        rclpy.spin_once(node, timeout_sec=0.1)

def spin():
    try:
        while True:
            rclpy.spin_once(node, timeout_sec=0.1)
    except KeyboardInterrupt:
        pass

"""
FINISHES = """
wait_until_watched()
state.phase, state.acknowledged = RunState.FINISHED, 10
spin()
"""
STOPS = """
wait_until_watched()
state.phase, state.detail = RunState.STOPPED, 'the value fit is no good'
spin()
"""
INTERRUPTED = """
wait_until_watched()
os.kill(os.getppid(), signal.SIGINT)
spin()
"""
CRASHES = """
sys.exit('no such camera')
"""


class Recorder:
    """A display that remembers, and touches a file once it has shown the run at work."""

    def __init__(self, seen):
        self.lines, self.notes, self.closed, self._seen = [], [], False, seen

    def update(self, view: RunView, now: float) -> None:
        self.lines.append(view.line(now))
        if view.phase is Phase.ONLINE and view.episodes and view.learner and view.arm:
            self._seen.touch()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def watch(tmp_path):
    folder = create_run(tmp_path / 'my runs', 'one', RunConfig('pipe_assembly'), {})

    def run(code: str):
        seen = tmp_path / 'seen'
        argv = (sys.executable, '-c', textwrap.dedent(MANAGER + code), str(seen))
        spec = ProcessSpec('made_up', argv, respawn_limit=1, backoff_s=0.01)
        display = Recorder(seen)
        ending = run_graph(
            folder,
            folder.read_config(),
            load_task('pipe_assembly'),
            [spec],
            display,
            time.monotonic(),
        )
        assert display.closed
        return ending, display, folder

    return run


@pytest.mark.timeout(90)
def test_a_run_is_watched_until_it_is_finished(watch):
    ending, display, folder = watch(FINISHES)
    (stop,) = (note for note in display.notes if note.startswith('emergency stop'))
    assert shlex.split(stop.partition(': ')[2]) == ['./q2rl', 'stop', str(folder.path)]
    assert not folder.domain.exists()
    assert ending.end is End.FINISHED
    assert any('online' in line and 'success 100 % of last 1' in line for line in display.lines)
    arm = {'joints_unfollowed': 3}
    assert read_session(folder) == {'respawns': {}, 'rejected': 4, 'arm': arm}
    assert any(note.startswith('ROS_DOMAIN_ID=') for note in display.notes)


@pytest.mark.timeout(90)
def test_a_run_that_stops_itself_says_why(watch):
    ending, _, _ = watch(STOPS)
    assert (ending.end, ending.text) == (End.STOPPED, 'the value fit is no good')


@pytest.mark.timeout(90)
def test_ctrl_c_asks_the_run_to_stop_and_waits_for_the_last_acknowledgement(watch):
    ending, display, folder = watch(INTERRUPTED)
    assert ending.end is End.INTERRUPTED
    assert 'asked to stop' in (folder.logs / 'made_up.log').read_text()
    assert not any('SIGTERM' in note for note in display.notes)


@pytest.mark.timeout(90)
def test_a_run_that_cannot_be_heard_any_more_is_not_waited_for(watch, monkeypatch):
    def puzzled(view, status):
        raise KeyError('of another release')

    monkeypatch.setattr(RunView, 'hear_arm', puzzled)
    with pytest.raises(KeyError, match='of another release'):
        watch(FINISHES)


@pytest.mark.timeout(90)
def test_a_node_that_keeps_crashing_ends_the_run_with_the_end_of_its_log(watch):
    ending, _, folder = watch(CRASHES)
    assert ending.end is End.CRASHED
    assert 'made_up ended with exit code 1 after 1 restarts' in ending.text
    assert '  | no such camera' in ending.text and not ending.lasting
    assert str(folder.logs / 'made_up.log') in ending.text
    assert read_session(folder)['respawns'] == {'made_up': 1}


def test_the_graphs_nodes_become_processes_with_their_parameters_in_files(tmp_path):
    asked = RunConfig('pipe_assembly', seed=5, steps=123, drop_bc=True)
    folder = create_run(tmp_path, 'one', asked, {})
    specs = {spec.name: spec for spec in node_processes(folder, folder.read_config(), resume=False)}
    assert {'mujoco_arm', 'arm_interface', 'q_gate', 'learner', 'episode_manager'} <= set(specs)
    for name, spec in specs.items():
        assert spec.argv[1:3] == ('-m', spec.argv[2]) and spec.argv[2].endswith(f'.{name}_node')
        assert spec.final_codes == (2,)
        files = [spec.argv[k + 1] for k, word in enumerate(spec.argv) if word == '--params-file']
        assert files[-1] == str(folder.path / 'parameters' / f'{name}.yaml')
        assert Path(files[0]).is_file()

    def parameters(name):
        text = (folder.path / 'parameters' / f'{name}.yaml').read_text()
        return yaml.safe_load(text)[f'/{name}']['ros__parameters']

    assert parameters('mujoco_arm')['trace_file'] == str(folder.trace)
    assert parameters('mujoco_arm')['lockstep'] is True
    manager = parameters('episode_manager')
    assert manager['run_dir'] == str(folder.path)
    assert (manager['seed'], manager['online_steps'], manager['run_id']) == (5, 123, 'one')
    assert manager['drop_bc'] is True
    assert parameters('bc_policy')['checkpoint'] == str(folder.bc)


def test_a_program_that_is_not_installed_is_bad_input():
    with pytest.raises(InputError, match='is not installed'):
        program('no_such_package', 'node')
    assert program('q2rl_sim', 'mujoco_arm')[1:] == ('-m', 'q2rl_sim.mujoco_arm_node')


def test_a_page_to_watch_on_is_one_more_process_that_may_die(tmp_path):
    folder = create_run(tmp_path, 'one', RunConfig('pipe_assembly'), {})
    config = folder.read_config()
    plain = {spec.name for spec in node_processes(folder, config, resume=False)}
    watched = {s.name: s for s in node_processes(folder, config, resume=False, browser_port=9001)}
    assert set(watched) - plain == {'operator_view'}
    assert not watched['operator_view'].required and watched['operator_view'].respawn
    assert 'port: 9001' in (folder.path / 'parameters' / 'operator_view.yaml').read_text()


def test_how_the_arm_is_commanded_reaches_the_arm_and_its_simulation(tmp_path):
    folder = create_run(
        tmp_path, 'one', RunConfig('pipe_assembly', command_sink='joint_position'), {}
    )
    node_processes(folder, folder.read_config(), resume=True)
    assert (
        'command_sink: joint_position'
        in (folder.path / 'parameters/arm_interface.yaml').read_text()
    )
    assert 'command_interface: joints' in (folder.path / 'parameters/mujoco_arm.yaml').read_text()


def test_includes_and_processes_that_end_by_themselves_are_run_too(tmp_path, monkeypatch):
    monkeypatch.setattr(up_run, 'program', lambda package, executable: (package, executable))
    config = RunConfig('pipe_assembly', realtime=True, sim='gazebo')
    folder = create_run(tmp_path, 'one', config, {})
    specs = {spec.name: spec for spec in node_processes(folder, config, False)}
    argv = specs['gz_sim'].argv
    assert argv[:4] == ('ros2', 'launch', 'ros_gz_sim', 'gz_sim.launch.py')
    world = next(word for word in argv if word.startswith('gz_args:=')).split()[-1]
    assert '<sdf' in Path(world).read_text()
    assert {name for name, spec in specs.items() if spec.once} == {
        'spawn_active', 'spawn_inactive', 'spawn_robot',
    }  # fmt: skip
