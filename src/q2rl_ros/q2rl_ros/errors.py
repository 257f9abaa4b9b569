# SPDX-License-Identifier: Apache-2.0
"""What a node raises about a message that it will not use."""

from __future__ import annotations


class MessageError(ValueError):
    """A message that must be dropped. `kind` names the counter it goes to: 'malformed', 'contract', ...

    :param kind: counter, see `Q2rlNode.count`
    :param problem: what is wrong with the message
    """

    def __init__(self, kind: str, problem: str) -> None:
        self.kind = kind
        super().__init__(problem)
