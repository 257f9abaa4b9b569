# SPDX-License-Identifier: Apache-2.0
"""The outcome of a test run by package, read from pytest's JUnit file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

import yaml

from q2rl_task.errors import InputError

ALLOWED_SKIPS = 'tests/allowed_skips.yaml'


@dataclass
class PackageOutcome:
    """Counts and wall time [s] of one package's tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass
class Summary:
    """All packages' outcomes, the failed tests by name, and the reasons of skips with their counts."""

    packages: dict[str, PackageOutcome] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skips: Counter = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            'passed': sum(p.passed for p in self.packages.values()),
            'failed': sum(p.failed for p in self.packages.values()),
            'skipped': sum(p.skipped for p in self.packages.values()),
            'packages': {name: asdict(outcome) for name, outcome in self.packages.items()},
            'failures': self.failures,
            'skips': dict(self.skips),
        }

    def show(self) -> None:
        """Print the table of packages, then failures and reasons of skips."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title='tests', title_justify='left', pad_edge=False)
        table.add_column('package')
        for name in ('passed', 'failed', 'skipped', 'seconds'):
            table.add_column(name, justify='right')
        for name, outcome in sorted(self.packages.items()):
            failed = f'[red]{outcome.failed}[/]' if outcome.failed else '0'
            table.add_row(
                name, str(outcome.passed), failed, str(outcome.skipped), f'{outcome.seconds:.1f}'
            )
        console = Console()
        console.print(table)
        for name in self.failures:
            console.print(f'failed  {name}', style='red', markup=False, highlight=False)
        for reason, count in self.skips.most_common():
            console.print(f'skipped {count} x {reason}', markup=False, highlight=False)


def read_summary(path: Path) -> Summary:
    """Read pytest's JUnit file (family xunit1); a case belongs to `src/<package>`, else to its top folder."""
    summary = Summary()
    for case in ElementTree.parse(path).getroot().iter('testcase'):
        file = Path(case.get('file', ''))
        name = (
            file.parts[1]
            if file.parts[:1] == ('src',) and len(file.parts) > 1
            else (file.parts or ('-',))[0]
        )
        outcome = summary.packages.setdefault(name, PackageOutcome())
        outcome.seconds += float(case.get('time', 0.0))
        skipped = case.find('skipped')
        if case.find('failure') is not None or case.find('error') is not None:
            outcome.failed += 1
            summary.failures.append(f'{file}::{case.get("name")}')
        elif skipped is not None:
            outcome.skipped += 1
            summary.skips[_reason(skipped)] += 1
        else:
            outcome.passed += 1
    return summary


def _reason(skipped: ElementTree.Element) -> str:
    """Return why a test was skipped; of a whole file, pytest has it in the text: ('file', line, 'Skipped: reason')."""
    said = skipped.get('message') or 'no reason given'
    if said == 'collection skipped':
        return (skipped.text or said).rpartition('Skipped: ')[2].rstrip('\'")')
    return said


def allowed_skips(root: Path, environment: str) -> set[str]:
    """Return the reasons for which tests may be skipped in an environment of `ALLOWED_SKIPS`.

    :raises InputError: there is no such environment
    """
    allowed = yaml.safe_load((root / ALLOWED_SKIPS).read_text())
    if environment not in allowed:
        raise InputError(
            f'--skips {environment}',
            f'is not in {ALLOWED_SKIPS}',
            f'name one of {", ".join(allowed)}',
        )
    return set(allowed[environment])
