# SPDX-License-Identifier: Apache-2.0
"""The page of one episode in a real browser: its cursor goes where keys, slider and mouse say, all numbers with it."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / 'src' / 'q2rl_lab' / 'test'))
from chromium import CHROMIUM, Chromium
from synthetic_run import STEPS, SyntheticRun

from q2rl_lab.run_data import read_run
from q2rl_lab.why_files import write_episodes
from q2rl_task import Mode, Phase

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium (apt install chromium)'),
    pytest.mark.timeout(300),
]


@pytest.fixture
def page(tmp_path):
    run = SyntheticRun(tmp_path)
    run.add(Phase.ONLINE, Mode.GATED, False)
    data = read_run(run.write())
    (path,) = write_episodes(data, data.episodes)
    browser = Chromium(path.as_uri())
    try:
        # A dash stands there until the script is through; keys pressed before it would be heard by nobody.
        browser.until(lambda: told(browser, 'tick') not in (None, '–'), 'the numbers')
        yield browser
    finally:
        browser.close()


def told(page: Chromium, name: str) -> str:
    return page.evaluate(f"document.getElementById('n-{name}')?.innerText")


def press(page: Chromium, key: str) -> None:
    page.call('Input.dispatchKeyEvent', type='keyDown', key=key)
    page.call('Input.dispatchKeyEvent', type='keyUp', key=key)


def test_one_cursor_moves_every_number_of_the_page(page):
    press(page, 'Home')
    assert told(page, 'tick') == f'0 of {STEPS}' and told(page, 'who') == 'BC'
    assert (told(page, 'qbc'), told(page, 'qrl')) == ('-20.00', '-25.00')
    reasons = [told(page, 'reason')]
    for _ in range(STEPS // 2):
        press(page, 'ArrowRight')
    reasons.append(told(page, 'reason'))
    assert told(page, 'who') == 'RL' and told(page, 'qrl') == '-18.00'
    assert all(len(reason) > 3 for reason in reasons)
    press(page, 'End')
    assert told(page, 'tick') == f'{STEPS}, the end'
    assert page.evaluate("document.getElementById('slider').value") == str(STEPS)
    page.evaluate(
        "(s => { s.value = 1; s.dispatchEvent(new Event('input')); })(document.getElementById('slider'))"
    )
    assert told(page, 'tick') == f'1 of {STEPS}'


def test_the_mouse_over_a_plot_chooses_the_tick(page):
    press(page, 'End')
    left, top, width = page.evaluate(
        "(b => [b.left, b.top, b.width])(document.querySelector('.u-over').getBoundingClientRect())"
    )
    page.call('Input.dispatchMouseEvent', type='mouseMoved', x=left + 1, y=top + 5)
    page.until(lambda: told(page, 'tick') == f'0 of {STEPS}', 'the first tick under the mouse')
    page.call('Input.dispatchMouseEvent', type='mouseMoved', x=left + width / 2, y=top + 5)
    page.until(lambda: told(page, 'tick') == f'{STEPS // 2} of {STEPS}', 'the middle')
