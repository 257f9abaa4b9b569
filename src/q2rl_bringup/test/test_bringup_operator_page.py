# SPDX-License-Identifier: Apache-2.0
"""The page shows exactly the markers that RViz gets, and its buttons ask; the browser itself is in tests/browser."""

from geometry_msgs.msg import Vector3, WrenchStamped
import numpy as np
import pytest
from std_srvs.srv import Trigger
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from q2rl_bringup import operator_services
from q2rl_bringup.operator_page import LABELS, OperatorPage, status_html
from q2rl_bringup.operator_services import OperatorServices, Wish
from q2rl_bringup.scene_picture import Scale, picture
from q2rl_bringup.scene_state import PARTS, SceneState
from q2rl_msgs.msg import EpisodeSummary, GuardState, RunState
from q2rl_msgs.srv import LabelEpisode
from q2rl_ros.conversions import pose_to_msg
from q2rl_ros.node import Q2rlNode
from q2rl_ros.testing import bench as make_bench
from q2rl_ros.testing import free_port
from q2rl_task import Decision, InputError, Pose, Reason, Source, load_task

BC, RL = (np.eye(6, dtype=np.float32)[k] for k in (2, 0))
DECISION = Decision(
    Source.RL, Reason.RL_HIGHER, RL, q_bc=-9.0, q_rl=-7.5, bc_action=BC, rl_action=RL
)


@pytest.fixture
def state():
    return SceneState(load_task('pipe_assembly'))


def make_page(state, port, asked=lambda wish: None):
    return OperatorPage('127.0.0.1', port, state, Scale(), None, asked)


@pytest.fixture
def page(state):
    made = make_page(state, free_port())
    yield made
    made.close()


def touch(state, force):
    msg = WrenchStamped()
    msg.wrench.force = Vector3(z=force)
    state.hear_wrench(msg)


def listed(state):
    """Return the names of the markers that RViz would show."""
    markers = [m for part in PARTS for m in picture(state, part, Scale()).markers]
    return {f'/markers/{m.ns}/{m.id}' for m in markers if m.action == m.ADD}


def test_the_page_draws_every_marker_moves_it_and_takes_it_away(page, state):
    page.draw()
    assert set(page._painter._shown) == listed(state)
    for step in range(3):
        tip = Pose.of([0.5, 0.01 * step, 0.2])
        state.hear_pose(pose_to_msg(tip, state.task.frames.base, float(step)))
        state.decision, state.fixture = DECISION, state.task.fixture.nominal.pose
        state._changed.add('scene')
        touch(state, -20.0 - step)
        state.hear_episode(EpisodeSummary(episode=f'e{step}', success=step > 0))
        page.draw()
        assert set(page._painter._shown) == listed(state)
        arrow = page._painter._shown['/markers/RL/0']
        np.testing.assert_allclose(arrow.points[0, 0], tip.position, atol=1e-6)
    assert {'/markers/BC/0', '/markers/force/0', '/markers/history/0'} <= listed(state)
    state.decision = None
    touch(state, 0.0)
    page.draw()
    assert set(page._painter._shown) == listed(state)
    assert '/markers/RL/0' not in listed(state)


def test_a_port_that_is_taken_is_refused(page, state):
    taken = page._server.get_port()
    with pytest.raises(InputError, match=f'port {taken}'):
        make_page(state, taken)


def test_a_page_of_another_site_cannot_press_the_buttons(page):
    port = page._server.get_port()
    address = f'ws://127.0.0.1:{port}'
    for origin in ('https://example.org', 'http://127.0.0.1:1', f'http://example.org:{port}'):
        with pytest.raises(InvalidStatus, match='403'):
            connect(address, origin=origin, proxy=None)
    connect(address, origin=f'http://127.0.0.1:{port}', proxy=None).close()


def test_every_wish_has_a_button():
    assert set(LABELS) == set(Wish) and len(set(LABELS.values())) == len(Wish)


def test_what_a_node_says_cannot_write_on_the_page(state):
    state.hear_guard(GuardState(state=GuardState.STOPPED, detail='<script>x</script>'), now=0.0)
    state.pass_time(0.1)
    shown = status_html(state)
    assert 'STOPPED' in shown and 'q2rl-stopped' in shown and '<script>' not in shown


def test_a_silent_arm_is_not_shown_as_acting(state):
    state.hear_guard(GuardState(state=GuardState.ACTING), now=0.0)
    state.pass_time(10.0)
    assert 'q2rl-unknown' in status_html(state) and 'NO WORD FROM THE ARM' in status_html(state)


def test_a_stop_that_nobody_hears_is_asked_for_again_until_somebody_does(monkeypatch):
    monkeypatch.setattr(operator_services, 'PATIENCE_S', 0.2)
    told, stopped = [], []

    def stop(request, response):
        stopped.append(request)
        response.success = True
        return response

    def asking(**kwargs):
        return Q2rlNode('asking', **kwargs)

    with make_bench() as bench:
        services = OperatorServices(bench.start(asking), lambda *what: told.append(what), str)

        def until(condition):
            bench.until(lambda: (services.look(), condition())[1])

        services.ask(Wish.EMERGENCY_STOP)
        services.ask(Wish.HOLD)
        until(lambda: sum('NO ANSWER' in text for text, _ in told) >= 3)
        assert sum('hold' in text for text, _ in told) == 1
        bench.probe.create_service(Trigger, 'arm_interface/emergency_stop', stop)
        until(lambda: any(good for _, good in told))
        assert stopped and told[-1] == ('emergency stop: the arm took the stop', True)


def test_a_verdict_is_about_the_episode_that_is_shown_and_about_none_where_none_is(state):
    told, asked = [], []

    def label(request, response):
        asked.append((request.episode, request.success))
        response.success = True
        return response

    def asking(**kwargs):
        return Q2rlNode('asking', **kwargs)

    with make_bench() as bench:
        bench.probe.create_service(LabelEpisode, 'arm_interface/label_episode', label)
        node = bench.start(asking)
        services = OperatorServices(node, lambda *what: told.append(what), lambda: state.episode)
        bench.until(services._clients['arm_interface/label_episode'].service_is_ready)
        services.ask(Wish.SUCCESS)
        bench.until(lambda: (services.look(), told)[1])
        assert told == [('success: refused (no episode is shown that it could be about)', False)]
        for episode, wish in (('r-e0001', Wish.SUCCESS), ('r-e0002', Wish.FAILURE)):
            state.hear_run(RunState(episode=episode))
            told.clear()
            services.ask(wish)
            bench.until(lambda: (services.look(), told)[1])
        assert asked == [('r-e0001', True), ('r-e0002', False)]
