# SPDX-License-Identifier: Apache-2.0
"""The list of protections, the tests that it names and the page that claims them say the same."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]


def listed():
    spec = importlib.util.spec_from_file_location(
        'listed_protections', ROOT / 'tests' / 'protections' / 'protections.py'
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.PROTECTIONS


def test_every_protection_has_a_name_of_its_own_and_a_test_that_exists():
    protections = listed()
    assert len({p.name for p in protections}) == len(protections) > 40
    for protection in protections:
        file, _, name = protection.test.partition('::')
        assert f'def {name.partition("[")[0]}(' in (ROOT / file).read_text(), protection.test


def test_the_page_claims_exactly_the_protections_that_are_proved():
    page = (ROOT / 'docs' / 'safety.md').read_text()
    rows = re.findall(r'^\| ([^|]+) \| [^|]+ \| `(\w+\.py)::(\w+)` \|$', page, re.MULTILINE)
    wanted = {
        (p.name, Path(p.test.partition('::')[0]).name, p.test.partition('::')[2].partition('[')[0])
        for p in listed()
    }
    assert set(rows) == wanted


@pytest.mark.parametrize('out', [False, True])
def test_a_conftest_that_binds_a_protection_by_name_sees_it_taken_out(tmp_path, out):
    (tmp_path / 'conftest.py').write_text('from q2rl_control.guard import action_fault as bound\n')
    (tmp_path / 'test_bound.py').write_text(
        'import numpy as np\n'
        'def test_bound(request):\n'
        '    (conftest,) = (p for p in request.config.pluginmanager.get_plugins() if hasattr(p, "bound"))\n'
        '    assert conftest.bound(np.full(6, np.nan), 6) == "not_finite"\n'
    )
    (tmp_path / 'pytest.ini').write_text('[pytest]\n')
    folder = ROOT / 'tests' / 'protections'
    paths = [str(folder), os.environ.get('PYTHONPATH', '')]
    done = subprocess.run(
        [
            sys.executable, '-m', 'pytest', '-q', '-p', 'protections', '-p', 'no:cacheprovider',
            *(['--take-out', 'reject actions that are not finite'] if out else []), 'test_bound.py',
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=60.0, check=False,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1',  # none is needed, and they take long to load
        },
    )  # fmt: skip
    assert done.returncode == int(out), done.stdout + done.stderr
    assert f'1 {"failed" if out else "passed"}' in done.stdout
