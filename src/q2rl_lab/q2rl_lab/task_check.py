# SPDX-License-Identifier: Apache-2.0
"""Whether a task can be simulated, said before anything is made for it."""

from __future__ import annotations

from q2rl_task import InputError, TaskSpec


def check_simulated(source: str, task: TaskSpec) -> None:
    """Make sure that the scene of a task is there and builds, and that its arm reaches fixture and part.

    :param source: name or path that the task was read by
    :raises InputError: it names file and field
    """
    from q2rl_sim.arm import SimArm

    try:
        arm = SimArm(task, 0)
        arm.solve_ik(task.fixture.nominal.pose)
        if task.part is not None:
            arm.solve_ik(task.part.nominal.pose)
    except InputError as error:
        field = error.where.removeprefix(f'task {task.name}: ')
        raise InputError(f'{source}: {field}', error.problem, error.remedy) from None
