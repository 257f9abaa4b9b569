# SPDX-License-Identifier: Apache-2.0
"""`q2rl test --prove` itself: it sees a protection that nothing tests, and one whose test proves nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from q2rl_lab import prove as module
from q2rl_lab.prove import prove
from q2rl_task import InputError

LISTED = """
from dataclasses import dataclass
from collections.abc import Callable


@dataclass(frozen=True)
class Protection:
    name: str
    test: str
    take_out: Callable


def off():
    import guarded
    guarded.limit = lambda value: value


PROTECTIONS = [
    Protection('limit it', 'test_guarded.py::test_limit', off),
    Protection('limit it untested', 'test_guarded.py::test_something_else', off),
    Protection('limit it by a test that fails anyway', 'test_guarded.py::test_bad', off),
]


def pytest_addoption(parser):
    parser.addoption('--take-out')


def pytest_configure(config):
    for protection in PROTECTIONS:
        if protection.name == config.getoption('--take-out'):
            protection.take_out()
"""
TESTS = """
from guarded import limit


def test_limit():
    assert limit(9) == 1


def test_something_else():
    assert limit(0) == 0


def test_bad():
    assert False
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv(
        'PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1'
    )  # none is needed, and they take long to load
    (tmp_path / 'listed.py').write_text(LISTED)
    (tmp_path / 'guarded.py').write_text('def limit(value):\n    return min(value, 1)\n')
    (tmp_path / 'test_guarded.py').write_text(TESTS)
    (tmp_path / 'pytest.ini').write_text('[pytest]\n')
    return tmp_path


def test_each_protection_gets_its_verdict(tree):
    told = []
    verdicts = prove(tree, told=told.append, listed=Path('listed.py'))
    assert [v.outcome for v in verdicts] == ['noticed', 'not noticed', 'broken']
    assert told == verdicts


def test_a_wanted_protection_that_does_not_exist_is_bad_input(tree):
    with pytest.raises(InputError, match='limit it'):
        prove(tree, ['teleport'], listed=Path('listed.py'))
    with pytest.raises(InputError, match='no list'):
        prove(tree, listed=Path('elsewhere.py'))


def test_an_interrupted_run_has_told_what_was_judged_and_starts_nothing_more(tree, monkeypatch):
    ran, given_up = [], Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            given_up.set()
            super().shutdown(wait=wait)

    def run(root, path, test, take_out=''):
        ran.append((test.partition('::')[2], take_out))
        if len(ran) > 2:
            assert given_up.wait(20.0)
        return (1 if take_out else 0), True, ''

    def told(verdict):
        assert (verdict.protection, verdict.outcome) == ('limit it', 'noticed')
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'ThreadPoolExecutor', Pool)
    monkeypatch.setattr(module, '_run', run)
    with pytest.raises(KeyboardInterrupt):
        prove(tree, jobs=1, told=told, listed=Path('listed.py'))
    assert ran[:2] == [('test_limit', ''), ('test_limit', 'limit it')]
    assert len(ran) <= 3
