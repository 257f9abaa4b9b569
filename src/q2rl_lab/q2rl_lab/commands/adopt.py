# SPDX-License-Identifier: Apache-2.0
"""`q2rl adopt`: take a policy that was cloned elsewhere, and say whether Q2RL can improve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from q2rl_lab.commands.options import Json, Seed, Task


def adopt(
    policy: Annotated[
        str,
        typer.Argument(
            help='A robomimic checkpoint, TorchScript, ONNX, a LeRobot policy folder, a Python class '
            '(module:Class or file.py:Class), or a YAML that names one of them.',
            metavar='POLICY',
        ),
    ],
    task: Task = 'pipe_assembly',
    suite: Annotated[
        str | None,
        typer.Option(
            '--suite',
            help='A suite of `bench learning`: --task is then one of its tasks, or the task.json of a Gymnasium one.',
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            '--spec', help='YAML: what the policy observes, what it returns, and in which units.'
        ),
    ] = None,
    interpreter: Annotated[
        Path | None,
        typer.Option(
            '--interpreter',
            help='For a LeRobot folder: the Python that has LeRobot installed, such as lerobot/.venv/bin/python.',
            show_default="q2rl's own",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            '--output', '-o', help='File to write.', show_default='bc.safetensors or bc.yaml'
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            '--episodes',
            '-n',
            min=0,
            help='Fresh scenes to measure it on, each way; --distil fits to them too. 0: run none, only check it.',
            show_default='50; 100 with --distil',
        ),
    ] = None,
    distil: Annotated[
        bool, typer.Option('--distil', help='Fit a mixture to its samples, and keep that instead.')
    ] = False,
    demonstrations: Annotated[
        Path | None,
        typer.Option(
            '--demonstrations',
            help='Recorded observations (HDF5): -n 0 checks it on them, --distil fits to them too.',
        ),
    ] = None,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option('--force', help='Replace an existing file.')] = False,
    as_json: Json = False,
) -> None:
    """Adopt a policy that was cloned elsewhere: check it, measure it, keep it.

    Q2RL needs of a policy: an action of this task, how likely that is (log p and
    entropy of the one distribution it is a sample of), and a success now and
    then. This looks at each, runs fresh scenes in one process, says whether
    Q2RL applies and what to do next, and writes a file that up, learn, eval and
    the node bc_policy take. A policy without a density can get one: --distil
    fits a mixture to its samples and measures that as well.

    Checkpoints are never unpickled. A Python class is your code, and is run.
    Formats, the YAML and the protocol of a class: docs/adopt-a-policy.md.

    \b
    q2rl adopt model_epoch_600.pth -o bc.safetensors     robomimic
    q2rl adopt policy.onnx --spec policy.yaml            ONNX or TorchScript
    q2rl adopt mine.py:MyPolicy --distil                 a class, a mixture of it
    q2rl adopt pretrained_model --interpreter ~/lerobot/.venv/bin/python --distil
    q2rl adopt p.onnx --task my.yaml -n 0 --demonstrations d.hdf5
    q2rl adopt model.pth --suite robosuite --task robosuite_lift
    q2rl up pipe_assembly --bc bc.safetensors            then: improve it
    """  # noqa: D301
    from q2rl_lab.adopting import DISTIL_EPISODES, EPISODES, adopt_policy
    from q2rl_lab.adoption_order import Order
    from q2rl_lab.console import EXIT_FAILED, emit

    if episodes is None:
        episodes = DISTIL_EPISODES if distil else EPISODES
    order = Order(
        policy,
        spec,
        interpreter,
        suite,
        task,
        output,
        episodes,
        distil,
        demonstrations,
        seed,
        force,
    )
    result, shown = adopt_policy(order)
    if as_json:
        emit(result, True)
    else:
        shown()
    if not result['file']:
        raise typer.Exit(EXIT_FAILED)
