# SPDX-License-Identifier: Apache-2.0
"""The list of protections, the tests that it names and the page that claims them say the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import re
import sys

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
