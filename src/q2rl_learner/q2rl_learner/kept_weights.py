# SPDX-License-Identifier: Apache-2.0
"""Earlier weights at hand, to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from q2rl_task.atomic_file import write_atomically

KEEP_EVERY = 10
"""Of so many versions one is kept."""
KEPT_VERSIONS = 12

State = Mapping[str, Tensor]


class KeptWeights:
    """The first version of the weights, for good, the last one of every `KEEP_EVERY`, and ever fewer of those before.

    :param folder: where they are kept over a restart, one file per version; None: in memory alone
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._files: dict[int, bytes | None] = {}
        for path in folder.glob('*.safetensors') if folder is not None else ():
            if path.stem.isdigit():
                self._files[int(path.stem)] = None

    def offer(self, version: int, parts: Mapping[str, nn.Module]) -> None:
        """Keep a copy of the parts' weights, if `version` is one to keep."""
        if self._files and version % KEEP_EVERY:
            return
        data = save(
            {
                f'{part}.{key}': tensor.detach().contiguous()
                for part, module in parts.items()
                for key, tensor in module.state_dict().items()
            }
        )
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(version), data)
        self._files[version] = None if self._folder is not None else data
        if len(self._files) > KEPT_VERSIONS:
            self._drop(_most_dispensable(sorted(self._files)))

    def nearest(self, version: int) -> tuple[int, dict[str, State]] | None:
        """Return the newest kept version up to `version`, else the oldest, and its parts; None if none is kept.

        A file that cannot be read is passed over for the next older one.
        """
        while self._files:
            found = max((v for v in self._files if v <= version), default=min(self._files))
            try:
                data = self._files[found]
                return found, _parts(self._path(found).read_bytes() if data is None else data)
            except (OSError, SafetensorError):
                del self._files[found]
        return None

    def forget_after(self, version: int) -> None:
        """Drop what is newer than `version`: weights that were turned away from are none to go back to."""
        for newer in [v for v in self._files if v > version]:
            self._drop(newer)

    def _drop(self, version: int) -> None:
        del self._files[version]
        if self._folder is not None:
            self._path(version).unlink(missing_ok=True)

    def _path(self, version: int) -> Path:
        return self._folder / f'{version}.safetensors'


def _most_dispensable(versions: list[int]) -> int:
    """Return the version, neither first nor last, whose gap would be smallest for its age."""
    newest = versions[-1]
    gaps = {
        version: (after - before) / (newest - before + 1)
        for before, version, after in zip(versions, versions[1:], versions[2:], strict=False)
    }
    return min(gaps, key=lambda version: (gaps[version], version))


def _parts(data: bytes) -> dict[str, State]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load(data).items():
        part, _, key = name.partition('.')
        parts.setdefault(part, {})[key] = tensor
    return parts
