# SPDX-License-Identifier: Apache-2.0
"""Who numbers the weights, and the last number that was sent: what receivers order them by."""

from __future__ import annotations

import json
from pathlib import Path
import uuid

from q2rl_task import InputError
from q2rl_task.atomic_file import write_atomically


class WeightsNumbers:
    """What is in the file `path`, which is made when the first weights are sent.

    learner: an id that is drawn once per folder of a learner, kept over its restarts and resumed runs. version: the
    last one sent; it is never given again, though the saved state be older: receivers take newer ones only.

    :raises InputError: the file is damaged
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.learner, self.version = uuid.uuid4().hex, 0
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding='utf-8'))
                self.version = int(content['version'])
                self.learner = str(content.get('learner', self.learner))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(path, f'is damaged ({error})', 'remove it') from None

    def sent(self, version: int) -> None:
        """Keep that this version is being sent; call it before."""
        self.version = version
        content = {'learner': self.learner, 'version': version}
        write_atomically(self._path, json.dumps(content))
