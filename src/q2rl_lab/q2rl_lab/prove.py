# SPDX-License-Identifier: Apache-2.0
"""Take every protection out, one at a time, and see whether its test notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import importlib.util
import os
from pathlib import Path
import subprocess
import sys
import tempfile

from q2rl_lab.outcomes import read_summary
from q2rl_task.errors import InputError

LIST = Path('tests/protections/protections.py')
TIME_LIMIT_S = 300.0
PYTEST_FAILED = 1


@dataclass(frozen=True)
class Verdict:
    """What became of one protection. outcome: 'noticed', 'not noticed', or 'broken' (its test proves nothing)."""

    protection: str
    test: str
    outcome: str
    detail: str = ''


def prove(
    root: Path,
    wanted: Sequence[str] = (),
    jobs: int = 2,
    told: Callable[[Verdict], None] = lambda verdict: None,
    listed: Path = LIST,
) -> list[Verdict]:
    """Judge the protections listed in a file whose names contain one of `wanted` (none: all).

    Each runs in a process of its own, first its test as it is, then with the protection taken out. One after another,
    so that of a run that is interrupted all verdicts but the last few have been told; what had not begun never does.

    :param told: called with every verdict as it is reached, in the order of the list
    :param listed: the list, a module with `PROTECTIONS` that is a pytest plugin with `--take-out`
    :raises InputError: no such list, or nothing in it is wanted
    """
    path = root / listed
    spec = importlib.util.spec_from_file_location('listed_protections', path)
    if spec is None or not path.is_file():
        raise InputError(path, 'no list of protections', 'run it inside a clone of the repository')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    chosen = [p for p in module.PROTECTIONS if not wanted or any(word in p.name for word in wanted)]
    if not chosen:
        known = '; '.join(p.name for p in module.PROTECTIONS)
        raise InputError(
            'q2rl test --prove', f'no protection {" ".join(wanted)}', f'known: {known}'
        )
    with ThreadPoolExecutor(jobs) as pool:
        as_it_is, judged, verdicts = {}, [], []
        for p in chosen:
            if p.test not in as_it_is:
                as_it_is[p.test] = pool.submit(_run, root, path, p.test)
            judged.append(pool.submit(_judge, root, path, p.name, p.test, as_it_is[p.test]))
        try:
            for future in judged:
                verdicts.append(future.result())
                told(verdicts[-1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return verdicts


def _judge(root: Path, path: Path, name: str, test: str, as_it_is) -> Verdict:
    # The run of the test as it is was submitted before, so waiting for it here cannot keep it from starting.
    code, ran, detail = as_it_is.result()
    if code != 0 or not ran:
        return Verdict(
            name, test, 'broken', detail or 'the test fails with the protection in place'
        )
    code, ran, detail = _run(root, path, test, name)
    if code == 0:
        return Verdict(name, test, 'not noticed')
    if code == PYTEST_FAILED and ran:
        return Verdict(name, test, 'noticed')
    return Verdict(name, test, 'broken', detail or f'pytest ended with exit code {code}')


def _run(root: Path, plugin: Path, test: str, take_out: str = '') -> tuple[int, bool, str]:
    """Run one test; return pytest's exit code, whether it ran (was not skipped), and the last line said if not."""
    with tempfile.TemporaryDirectory(prefix='q2rl-prove-') as scratch:
        outcome = Path(scratch) / 'outcome.xml'
        command = [
            sys.executable, '-m', 'pytest', '-x', '-q', '-p', plugin.stem, '-p', 'no:cacheprovider',
            f'--rootdir={root}', f'--junitxml={outcome}', '-o', 'junit_family=xunit1',
            *(['--take-out', take_out] if take_out else []), test,
        ]  # fmt: skip
        paths = [str(plugin.parent), os.environ.get('PYTHONPATH', '')]
        environment = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            # Examples that failed once would be tried first, with the protection back in place.
            'HYPOTHESIS_STORAGE_DIRECTORY': scratch,
        }
        try:
            done = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True,
                timeout=TIME_LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, False, f'took longer than {TIME_LIMIT_S:g} s'
        lines = (done.stdout + done.stderr).strip().splitlines()
        detail = lines[-1] if lines else ''
        if not outcome.is_file():
            return done.returncode, False, detail
        counts = read_summary(outcome).packages.values()
        return done.returncode, any(c.passed or c.failed for c in counts), detail
