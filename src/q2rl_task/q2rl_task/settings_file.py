# SPDX-License-Identifier: Apache-2.0
"""Read a YAML file of settings into its model, with one clear line for whatever is wrong in it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
import yaml

from q2rl_task.errors import InputError, one_line


class Section(BaseModel):
    """A part of a settings file: unknown fields are refused, numbers are finite, nothing changes later."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False):
        """Return a copy, some fields changed unchecked. What was computed of the fields before is not in it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


UNKNOWN, MISSING = 'extra_forbidden', 'missing'
"""Kinds of errors, as pydantic calls them."""
Model = TypeVar('Model', bound=Section)


def shipped_names(package: str, folder: str) -> list[str]:
    """Return the names of the settings that are shipped in a package's folder."""
    files = (resources.files(package) / folder).iterdir()
    return sorted(file.name[:-5] for file in files if file.name.endswith('.yaml'))


def load_settings(
    model: type[Model], kind: str, package: str, folder: str, name_or_path: str | Path
) -> Model:
    """Read settings by their name (a file shipped in a package's folder) or by the path of a YAML file.

    :param kind: what the settings are ('task', 'preset'), for messages
    :raises InputError: no such file, not YAML, or a field that is missing, unknown or out of range
    """
    shipped = resources.files(package) / folder
    named = shipped / f'{name_or_path}.yaml'
    path = Path(str(named)) if named.is_file() else Path(name_or_path)
    known = shipped_names(package, folder)
    choices = f'name one of {", ".join(known)} or the path of a {kind} YAML'
    if not os.path.exists(path):
        meant = get_close_matches(str(name_or_path), known, n=1)
        perhaps = f', {meant[0]} perhaps' if meant else ''
        raise InputError(name_or_path, f'no such {kind}{perhaps}', choices)
    content = read_mapping(path, f'mend it, or {choices}')
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise refusal(path, kind, error) from None


def read_mapping(path: Path, remedy: str, where: object = None) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; one without anything in it holds an empty one.

    :param remedy: what the user can do about a file that is of no use
    :param where: what an error calls the file, if not by its path
    :raises InputError: it cannot be read, is no YAML, or holds something else
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        problem = f'cannot be read ({getattr(error, "strerror", None) or "not UTF-8 text"})'
    except yaml.YAMLError as error:
        problem = f'is not valid YAML ({one_line(error)})'
    else:
        if isinstance(content, dict | None):
            return content or {}
        problem = 'is not a mapping of fields'
    raise InputError(path if where is None else where, problem, remedy)


def refusal(
    path: str | Path, kind: str, error: ValidationError, remedy: str | None = None
) -> InputError:
    """Return the one line about what is wrong in a settings file: a field that is unknown, else the first.

    A field that is misspelt is missing too; what was written tells more than what was not.

    :param remedy: for a field that is wrong, if not to look at the shipped settings
    """
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e['type'] == UNKNOWN), errors[0])
    field = '.'.join(str(part) for part in first['loc']) or kind
    more = f' (and {len(errors) - 1} more)' if len(errors) > 1 else ''
    if first['type'] != UNKNOWN:
        return InputError(
            f'{path}: field `{field}`',
            first['msg'].replace('Value error, ', '') + more,
            remedy or f'set it as the shipped {kind}s do',
        )
    beside = [
        e['loc'] for e in errors if e['type'] == MISSING and e['loc'][:-1] == first['loc'][:-1]
    ]
    meant = get_close_matches(str(first['loc'][-1]), [str(loc[-1]) for loc in beside], n=1)
    return InputError(
        f'{path}: field `{field}`',
        'is unknown' + (f', and `{meant[0]}` is missing' if meant else more),
        'remove it or correct its spelling',
    )
