# SPDX-License-Identifier: Apache-2.0
"""Methods as what each changes of a preset: one code, and the difference between two of them on one screen.

A method METHOD/VARIANT is METHOD with something changed, to take it apart; it is not listed among the others.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from q2rl_learner.config import LearnerConfig
from q2rl_task import InputError
from q2rl_task.settings_file import Section, load_settings, shipped_names

FOLDER = 'overlays'


class Method(Section):
    """A method as what it changes of a preset: `settings` has the names and the nesting of LearnerConfig.

    summary: one line. source: where the method is from. departs: how this form differs from its own implementation.
    """

    name: str = ''
    summary: str
    source: str
    departs: str = ''
    settings: dict[str, Any] = Field(default_factory=dict)

    def over(self, preset: LearnerConfig) -> LearnerConfig:
        """Return the preset with the method's settings in place of its own.

        :raises InputError: an unknown field, or settings that do not go together
        """
        try:
            return LearnerConfig.model_validate(_merged(preset.model_dump(), self.settings))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = '.'.join(str(part) for part in first['loc'])
            raise InputError(
                f'method {self.name}: field `{field}`',
                first['msg'].replace('Value error, ', ''),
                'correct its `settings`, or lay it over another preset',
            ) from None


def load_method(name_or_path: str | Path) -> Method:
    """Read a method by its name (one shipped with the package) or by the path of a YAML file.

    A variant's settings are those of its method with its own in their place, and it departs from its source as its
    method does, besides its own ways.

    :raises InputError: no such method, or not what `Method` describes
    """
    name = str(name_or_path)
    known = variant_names(str(Path(name).parent))
    if known and name not in known and not Path(name).is_file():
        raise InputError(name, 'no such variant', f'name one of {", ".join(known)}')
    method = load_settings(Method, 'method', 'q2rl_learner', FOLDER, name_or_path)
    if name in known:
        varied = load_method(Path(name).parent)
        return method.model_copy(
            update={
                'name': name,
                'settings': _merged(varied.settings, method.settings),
                'departs': ' '.join(filter(None, (varied.departs, method.departs))),
            }
        )
    return method.model_copy(update={'name': Path(name).stem})


def method_names() -> list[str]:
    """Return the names of the shipped methods, q2rl first."""
    names = shipped_names('q2rl_learner', FOLDER)
    return sorted(names, key=lambda name: (not name.startswith('q2rl'), name))


def variant_names(method: str | None = None) -> list[str]:
    """Return the names of the shipped variants, METHOD/VARIANT: of one method, or of all."""
    folders = (resources.files('q2rl_learner') / FOLDER).iterdir()
    of = sorted(f.name for f in folders if f.is_dir() and method in (None, f.name))
    return [f'{m}/{name}' for m in of for name in shipped_names('q2rl_learner', f'{FOLDER}/{m}')]


def flat(settings: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested settings as one level with dotted names."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        inner = flat(value, f'{prefix}{name}.') if isinstance(value, dict) else None
        out.update({prefix + name: value} if inner is None else inner)
    return out


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` in it; mappings are merged, everything else is replaced."""
    out = dict(base)
    for name, value in over.items():
        inner = base.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        out[name] = _merged(inner, value) if both else value
    return out
