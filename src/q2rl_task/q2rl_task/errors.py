# SPDX-License-Identifier: Apache-2.0
"""The exceptions that are told in one line: bad input, by place, problem and remedy. And what other errors say."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from outside the program (file, argument, message); shown as one line, exit code 2.

    :param where: the file (and field) or argument at fault
    :param problem: what is wrong with it
    :param remedy: what the user can do
    """

    def __init__(self, where: object, problem: str, remedy: str) -> None:
        self.where = str(where)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f'{self.where}: {problem}; {remedy}')

    def __reduce__(self) -> tuple:
        """Let it come back whole from another process."""
        return type(self), (self.where, self.problem, self.remedy)


class GivenUp(RuntimeError):
    """What was tried again and again and did not come about; shown as one line, exit code 1."""


def one_line(error: Exception, most: int | None = None) -> str:
    """Return what an error says in one line, of `most` characters if that is given; its kind where it says nothing."""
    return ' '.join(str(error).split())[:most] or type(error).__name__
