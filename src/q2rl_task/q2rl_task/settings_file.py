# SPDX-License-Identifier: Apache-2.0
"""Read a YAML file of settings into its model, with one clear line for whatever is wrong in it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
import yaml

from q2rl_task.errors import InputError


class Section(BaseModel):
    """A part of a settings file: unknown fields are refused, numbers are finite, nothing changes later."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


Model = TypeVar('Model', bound=Section)


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
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        known = sorted(p.name[:-5] for p in shipped.iterdir() if p.name.endswith('.yaml'))
        reason = getattr(error, 'strerror', None) or 'not UTF-8 text'
        raise InputError(
            name_or_path,
            f'no such {kind} ({reason})',
            f'name one of {", ".join(known)} or the path of a {kind} YAML',
        ) from None
    except yaml.YAMLError as error:
        raise InputError(
            path, f'not valid YAML ({" ".join(str(error).split())})', 'mend the file'
        ) from None
    if not isinstance(content, dict):
        raise InputError(path, 'is not a mapping of fields', f'start from a shipped {kind} YAML')
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise refusal(path, kind, error) from None


def refusal(
    path: str | Path, kind: str, error: ValidationError, remedy: str | None = None
) -> InputError:
    """Return the one line about what is wrong in a settings file.

    :param remedy: for a field that is wrong, if not to look at the shipped settings
    """
    first = error.errors(include_url=False)[0]
    field = '.'.join(str(part) for part in first['loc']) or kind
    more = f' (and {error.error_count() - 1} more)' if error.error_count() > 1 else ''
    unknown = first['type'] == 'extra_forbidden'
    return InputError(
        f'{path}: field `{field}`',
        first['msg'].replace('Value error, ', '') + more,
        'remove it or correct its spelling'
        if unknown
        else remedy or f'set it as the shipped {kind}s do',
    )
