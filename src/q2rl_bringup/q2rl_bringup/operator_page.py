# SPDX-License-Identifier: Apache-2.0
"""The page of `operator_view`: the scene, what the arm is doing in words, and the operator's buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
import html
import math
from pathlib import Path
import re

import numpy as np
import viser
import websockets.asyncio.server

from q2rl_bringup.arm_model import ArmModel
from q2rl_bringup.browser_scene import ArmPainter, MarkerPainter
from q2rl_bringup.operator_services import Wish
from q2rl_bringup.scene_picture import Scale, picture, view_point
from q2rl_bringup.scene_state import PARTS, SceneState
from q2rl_bringup.steering import Steering
from q2rl_task import InputError, Source

STYLE = Path(__file__).with_name('operator_page.css')
LABELS = {
    Wish.EMERGENCY_STOP: 'EMERGENCY STOP',
    Wish.RESET: 'Reset emergency stop',
    Wish.HOLD: 'Hold',
    Wish.RELEASE: 'Release',
    Wish.PAUSE: 'Pause',
    Wish.RESUME: 'Resume',
    Wish.SUCCESS: 'Success',
    Wish.FAILURE: 'Failure',
}
GROUPS = {
    'Arm': (Wish.HOLD, Wish.RELEASE),
    'Run': (Wish.PAUSE, Wish.RESUME),
    'Episode': (Wish.SUCCESS, Wish.FAILURE),
}


LOCAL = r'127\.0\.0\.1|localhost|\[::1\]'
STOP_COLOUR = 'red'
"""By which the style sheet knows the stop button, to make it large; nothing else on the page has it."""


class OperatorPage:
    """A viser server with one page; every method but `asked` is called from one thread.

    :param asked: called with a wish when its button is pressed, from a thread of viser's
    :param arm: None: the scene is shown without one
    :param steering: what a person who steers on the page wants; None: nobody can
    :raises InputError: the port is taken
    """

    def __init__(
        self,
        host: str,
        port: int,
        state: SceneState,
        scale: Scale,
        arm: ArmModel | None,
        asked: Callable[[Wish], None],
        steering: Steering | None = None,
    ) -> None:
        self._state, self._scale = state, scale
        with _own_pages_only(host, port):
            server = viser.ViserServer(host=host, port=port, label='q2rl', verbose=False)
        self._server = server
        if server.get_port() != port:
            server.stop()
            raise InputError(
                f'port {port} of {host}',
                'is taken',
                'name another one: browser_port, --browser-port',
            )
        # A share link would put the buttons on the open internet.
        server.gui.configure_theme(show_share_button=False, show_logo=False, control_width='large')
        server.gui.main_panel.dock_right()
        position, at = view_point(state.task)
        server.initial_camera.position, server.initial_camera.look_at = tuple(position), tuple(at)
        floor = 0.1 * math.ceil(10.0 * np.linalg.norm(at))
        server.scene.add_grid('/floor', 4 * floor, 4 * floor, cell_size=0.1, section_size=0.5)
        # Shadows cost a machine without a GPU most of its pictures.
        server.scene.configure_default_lights(cast_shadow=False)
        self._painter = MarkerPainter(server.scene)
        self._arm = ArmPainter(server.scene, arm) if arm is not None else None
        self._said, self._kindly = '', True
        server.gui.add_html(f'<style>{STYLE.read_text(encoding="utf-8")}</style>')
        stop = server.gui.add_button(LABELS[Wish.EMERGENCY_STOP], color=STOP_COLOUR)
        stop.on_click(lambda _: asked(Wish.EMERGENCY_STOP))
        self._steering, self._parts = None, set(PARTS)
        if steering is not None:
            # A person steers by what is there: what policies believe, and words in the picture, would be in the way.
            self._parts = {'gate'}
            # Only where there is a simulation, whose scene it draws.
            from q2rl_bringup.steering_panel import SteeringPanel

            self._steering = SteeringPanel(server, state.task, steering)
        self._status = server.gui.add_html('')
        self._add_buttons(asked)
        self._answer = server.gui.add_html('')

    def say(self, text: str, good: bool) -> None:
        """Show what became of a wish until the next one."""
        self._said, self._kindly = text, good

    def draw(self) -> None:
        """Show the state as it is now."""
        with self._server.atomic():
            for part in self._state.changed() & self._parts:
                self._painter.draw(picture(self._state, part, self._scale))
            if self._arm is not None:
                self._arm.move(self._state.joints)
            if self._steering is not None:
                self._steering.draw(self._state)
            _set(self._status, status_html(self._state))
            kind = 'good' if self._kindly else 'bad'
            _set(self._answer, f'<p class="q2rl-answer q2rl-{kind}">{html.escape(self._said)}</p>')

    def close(self) -> None:
        """Close the page and free the port."""
        self._server.stop()

    def _add_buttons(self, asked: Callable[[Wish], None]) -> None:
        gui = self._server.gui
        reset = gui.add_button(LABELS[Wish.RESET], color='gray')
        reset.on_click(lambda _: asked(Wish.RESET))
        for title, wishes in GROUPS.items():
            group = gui.add_button_group(title, [LABELS[wish] for wish in wishes])
            by_label = {LABELS[wish]: wish for wish in wishes}
            group.on_click(lambda event, known=by_label: asked(known[event.target.value]))


@contextmanager
def _own_pages_only(host: str, port: int) -> Iterator[None]:
    """Let the server that is started meanwhile refuse pages of other sites.

    Any site that is open in the operator's browser may open a websocket to this machine, and so press the buttons.
    viser does not look where a page comes from; websockets, which it starts its server by, does when it is told to.
    """
    serve = websockets.asyncio.server.serve
    # Served to a network, the page may be reached by any name of this machine.
    names = LOCAL if re.fullmatch(LOCAL, host) else '[^/]+'
    own = re.compile(rf'https?://({names}):{port}')
    websockets.asyncio.server.serve = partial(serve, origins=[own])
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve


def status_html(state: SceneState) -> str:
    """Return what the arm is doing, for a person who has two seconds."""
    guard, detail = state.guard_state, state.guard_detail
    kind = {'acting': 'acting', 'holding': 'holding', 'stopped': 'stopped'}.get(guard, 'unknown')
    rows = [('Run', html.escape(state.phase_text()))]
    if not state.demonstrating:
        rows += [('Acts', _actor(state)), ('Q', _values(state))]
    rows += [('Force', _force(state)), ('Success', _history(state))]
    cells = ''.join(f'<tr><th>{name}</th><td>{text}</td></tr>' for name, text in rows)
    return (
        f'<div class="q2rl-guard q2rl-{kind}"><b>{html.escape(guard.upper())}</b>'
        f'<span>{html.escape(detail)}</span></div><table class="q2rl-state">{cells}</table>'
    )


def _actor(state: SceneState) -> str:
    decision = state.decision
    if decision is None:
        return 'nobody'
    reason = decision.reason.name.lower().replace('_', ' ')
    name = decision.source.name
    return f'<b class="q2rl-{name.lower()}">{name}</b> ({reason})'


def _values(state: SceneState) -> str:
    if state.decision is None:
        return '-'
    return ' &nbsp; '.join(
        f'<b class="q2rl-{source.name.lower()}">{source.name}</b> {_number(value)}'
        for source, value in (
            (Source.RL, state.decision.q_rl),
            (Source.BC, state.decision.q_bc),
        )
    )


def _force(state: SceneState) -> str:
    force = float(np.linalg.norm(state.force))
    limits = state.task.limits
    share = min(100.0, 100.0 * force / limits.force_stop_n)
    kind = 'bad' if force > limits.force_soften_n else 'good'
    return (
        f'{force:.1f} N of {limits.force_stop_n:.0f} N'
        f'<div class="q2rl-bar"><i class="q2rl-{kind}" style="width:{share:.0f}%"></i></div>'
    )


def _history(state: SceneState) -> str:
    squares = ''.join(
        f'<i class="q2rl-{"good" if success else "bad"}"></i>' for success in state.outcomes
    )
    return f'{html.escape(state.success_text())}<div class="q2rl-history">{squares}</div>'


def _number(value: float) -> str:
    return f'{value:.2f}' if math.isfinite(value) else '-'


def _set(handle, content: str) -> None:
    """Change a piece of the page, if it is to change at all."""
    if handle.content != content:
        handle.content = content
