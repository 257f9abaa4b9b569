# SPDX-License-Identifier: Apache-2.0
"""The outcome of a test run by package, read from pytest's JUnit file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree


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
            summary.skips[skipped.get('message') or 'no reason given'] += 1
        else:
            outcome.passed += 1
    return summary
