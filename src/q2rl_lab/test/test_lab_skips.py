# SPDX-License-Identifier: Apache-2.0
"""A workflow's run fails on a skip that nobody has allowed; a person's run only counts it."""

import pytest
from typer.testing import CliRunner
import yaml

from q2rl_lab.cli import app
from q2rl_lab.outcomes import ALLOWED_SKIPS
from q2rl_lab.workspace import find_root

runner = CliRunner()
ALLOWED = 'needs a CUDA GPU'
SKIPPED = (
    'import pytest\n\n\ndef test_good():\n    pass\n\n\ndef test_other():\n    pytest.skip({!r})\n'
)
WHOLE_FILE = 'import pytest\n\npytest.importorskip("no_such_module", reason={!r})\n'


@pytest.fixture
def tested(tmp_path):
    def tested(*options, **files):
        for name, text in files.items():
            (tmp_path / f'test_{name}.py').write_text(text)
        return runner.invoke(app, ['test', str(tmp_path), '-q', '-p', 'no:cacheprovider', *options])

    return tested


def test_a_skip_that_is_not_allowed_fails_where_that_is_asked(tested):
    files = {
        'one': SKIPPED.format(ALLOWED),
        'two': SKIPPED.format("it's Friday"),
        'three': WHOLE_FILE.format("it's late"),
    }
    result = tested('--skips', 'embedded', **files)
    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if 'does not allow' in line]
    assert [line.partition('in embedded: ')[2] for line in told] == ["it's Friday", "it's late"]
    assert tested().exit_code == 0, 'a person runs what there is'


def test_a_skip_that_is_allowed_passes(tested):
    files = {'one': SKIPPED.format(ALLOWED), 'two': WHOLE_FILE.format(ALLOWED)}
    assert tested('--skips', 'embedded', **files).exit_code == 0


def test_an_unknown_environment_is_refused_before_a_test_runs(tested):
    result = tested('--skips', 'moon')
    assert result.exit_code == 2 and 'name one of embedded, jazzy' in result.stderr


def test_each_skip_that_is_allowed_is_one_that_a_test_has():
    root = find_root()
    allowed = yaml.safe_load((root / ALLOWED_SKIPS).read_text())
    texts = [
        p.read_text() for folder in ('src', 'tests') for p in (root / folder).rglob('test_*.py')
    ]
    for environment, reasons in allowed.items():
        for reason, why in reasons.items():
            assert why, f'{environment}: {reason}'
            assert any(f"'{reason}'" in text for text in texts), reason
