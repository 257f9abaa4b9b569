# SPDX-License-Identifier: Apache-2.0
"""`q2rl methods`: what can be compared, and what two methods set differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from q2rl_lab.commands.options import Json, Preset

SIDE_BY_SIDE = 5
"""Methods whose values fit beside one another on a screen."""


def methods(
    names: Annotated[
        list[str] | None, typer.Argument(help='Methods to compare; without any: list all.')
    ] = None,
    preset: Preset = 'laptop',
    as_json: Json = False,
) -> None:
    """List the methods, or show what two or more of them set differently.

    Each is a few settings laid over a preset: `--method NAME` of learn
    and up, or PRESET+NAME wherever a preset is named (ros2 launch, eval).

    \b
    q2rl methods
    q2rl methods q2rl ibrl rlpd
    """  # noqa: D301
    from q2rl_lab.console import emit
    from q2rl_learner.methods import load_method, method_names, variant_names

    if names:
        explain_methods(names, preset, as_json)
        return
    found = {name: load_method(name) for name in method_names()}
    if as_json:
        emit({name: method.model_dump() for name, method in found.items()}, True)
    else:
        emit({name: f'{m.summary} [{m.source}]' for name, m in found.items()}, False)
        print(f'Variants, for ablations: {", ".join(variant_names())}')


def explain_methods(names: Sequence[str], preset: str, as_json: bool) -> None:
    """Print what methods set differently, on one preset; a single one is compared with the preset itself."""
    from q2rl_lab.console import emit
    from q2rl_learner.config import load_preset
    from q2rl_learner.methods import flat, load_method

    configs = {name: load_preset(f'{preset}+{name}') for name in names}
    if len(configs) == 1:
        configs = {preset: load_preset(preset), **configs}
    settings = {name: flat(config.model_dump(mode='json')) for name, config in configs.items()}
    rows = {
        field: {name: values[field] for name, values in settings.items()}
        for field in next(iter(settings.values()))
        if len({str(values[field]) for values in settings.values()}) > 1
    }
    if as_json:
        emit(rows, True)
        return
    if rows:
        _show(rows, tuple(configs), preset)
    else:
        print(f'{", ".join(names)}: as the preset {preset}')
    for name in names:
        if (method := load_method(name)).departs:
            print(f'{name} departs from its source: {method.departs}')


def _show(rows: dict[str, dict[str, Any]], columns: Sequence[str], preset: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(pad_edge=False, title=f'on preset {preset}', title_justify='left')
    if len(columns) <= SIDE_BY_SIDE:
        for column in ('setting', *columns):
            table.add_column(column)
        for field, values in rows.items():
            table.add_row(field, *(str(value) for value in values.values()))
    else:
        first, *others = columns
        for column in ('method', f'what differs from {first}'):
            table.add_column(column)
        for name in others:
            differing = [field for field, values in rows.items() if values[name] != values[first]]
            told = (f'{field}: {rows[field][first]} -> {rows[field][name]}' for field in differing)
            table.add_row(name, '\n'.join(told))
    Console().print(table)
