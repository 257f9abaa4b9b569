# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its DevTools protocol: as much of it as looking at one page and pressing takes.

Why not a library: selenium and playwright bring a driver of their own (10 to 160 MB in every installation) for what are
five messages on a websocket, and the page under test has brought a websocket library already.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
import shutil
import subprocess
import tempfile
import time
import urllib.request

from websockets.sync.client import connect

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
WAIT_S = 90.0
"""Longest wait for anything; a page with 3-D graphics without a GPU takes its time."""
FLAGS = (
    '--headless=new',
    '--no-sandbox',  # root in a container has no user namespaces
    '--disable-dev-shm-usage',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--hide-scrollbars',
    '--remote-debugging-port=0',
)


class Chromium:
    """A browser with one page at `url`; `requested` holds the address of everything that the page loaded."""

    def __init__(self, url: str, width: int = 1280, height: int = 760) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix='q2rl-chromium-', ignore_cleanup_errors=True
        )
        size = f'--window-size={width},{height}'
        folder = f'--user-data-dir={self._profile.name}'
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, size, folder, 'about:blank'],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.requested: list[str] = []
        self._number = 0
        try:
            self._socket = connect(self._address(), max_size=None, proxy=None, open_timeout=WAIT_S)
        except BaseException:
            self.close()
            raise
        self.call('Network.enable')
        self.call('Page.enable')
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call('Page.navigate', url=url)

    def call(self, method: str, **parameters) -> dict:
        """Call a method of the protocol and return its result; what the page loads meanwhile is noted."""
        self._number += 1
        self._socket.send(json.dumps({'id': self._number, 'method': method, 'params': parameters}))
        end = time.monotonic() + WAIT_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.0, end - time.monotonic())))
            if message.get('method') == 'Network.requestWillBeSent':
                self.requested.append(message['params']['request']['url'])
            if message.get('id') == self._number:
                assert 'error' not in message, f'{method}: {message["error"]}'
                return message['result']

    def evaluate(self, expression: str):
        """Return the value of a JavaScript expression."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        return answer['result'].get('value')

    def text(self) -> str:
        """Return what the page says."""
        return self.evaluate('document.body.innerText') or ''

    def until(self, condition, what: str) -> None:
        """Wait until `condition()` holds; fail after `WAIT_S`."""
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, (
                f'{what}: not within {WAIT_S} s; the page says {self.text()!r}'
            )
            time.sleep(0.1)

    def press(self, label: str) -> None:
        """Press the button of this label with the mouse, as a person would."""
        find = f"""(() => {{
            const button = [...document.querySelectorAll('button')].find(b => b.innerText.trim() === {label!r});
            if (!button) return null;
            button.scrollIntoView();
            const box = button.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        self.until(lambda: self.evaluate(find), f'a button {label}')
        x, y = self.evaluate(find)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def hold(self, kind: str, x: float, y: float) -> None:
        """Press, move or release the left button at a point [px]; kind: mousePressed, mouseMoved or mouseReleased."""
        self.call(
            'Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', buttons=1, clickCount=1
        )

    def picture(self, width: float = 0.0, height: float = 0.0) -> bytes:
        """Return a screenshot (PNG), of the upper left part of the page if a size [px] is given."""
        clip = {'x': 0, 'y': 0, 'width': width, 'height': height, 'scale': 1}
        more = {'clip': clip} if width else {}
        return base64.b64decode(self.call('Page.captureScreenshot', format='png', **more)['data'])

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait(10.0)
        self._profile.cleanup()

    def _address(self) -> str:
        """Return the websocket address of the page, once the browser is up."""
        file = Path(self._profile.name) / 'DevToolsActivePort'
        end = time.monotonic() + WAIT_S
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            # It listens before it has a page.
            if file.is_file() and '\n' in (text := file.read_text()):
                port = text.split('\n')[0]
                with opener.open(f'http://127.0.0.1:{port}/json/list', timeout=WAIT_S) as answer:
                    for page in json.load(answer):
                        if page['type'] == 'page':
                            return page['webSocketDebuggerUrl']
            assert self._process.poll() is None, 'the browser ended'
            assert time.monotonic() < end, f'the browser did not come up within {WAIT_S} s'
            time.sleep(0.05)
