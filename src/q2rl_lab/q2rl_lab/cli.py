# SPDX-License-Identifier: Apache-2.0
"""The q2rl command: wires the verbs of q2rl_lab.commands and does nothing else."""

from __future__ import annotations

import sys

import typer

from q2rl_lab.commands.adopt import adopt
from q2rl_lab.commands.bench import bench
from q2rl_lab.commands.convert import convert
from q2rl_lab.commands.demos import demos
from q2rl_lab.commands.doctor import doctor
from q2rl_lab.commands.eval import evaluate_verb
from q2rl_lab.commands.export import export
from q2rl_lab.commands.learn import learn
from q2rl_lab.commands.methods import methods
from q2rl_lab.commands.report import report
from q2rl_lab.commands.shadow import shadow
from q2rl_lab.commands.stop import stop
from q2rl_lab.commands.task import task
from q2rl_lab.commands.test import CONTEXT, test
from q2rl_lab.commands.train_bc import train_bc
from q2rl_lab.commands.up import up
from q2rl_lab.commands.why import why
from q2rl_lab.console import CommandGroup

app = typer.Typer(
    name='q2rl',
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode='rich',
    context_settings={'help_option_names': ['-h', '--help']},
    help=(
        'Let a robot arm improve its own behaviour-cloned policy, safely, while it works.\n\n'
        'Start here: q2rl up pipe_assembly records demonstrations, clones them, starts the '
        'ROS 2 nodes on a simulated arm, learns, evaluates, and writes a report. '
        'q2rl doctor tells what this machine lacks.\n\n'
        'Results go to stdout (--json for machines), progress to stderr. '
        'Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C.'
    ),
)
app.command()(up)
app.command()(stop)
app.command()(demos)
app.command()(convert)
app.command('train-bc')(train_bc)
app.command()(adopt)
app.command()(learn)
app.command('eval')(evaluate_verb)
app.command()(export)
app.command()(report)
app.command()(why)
app.command()(shadow)
app.command()(methods)
app.command()(task)
app.add_typer(bench, name='bench')
app.command()(doctor)
app.command(context_settings=CONTEXT)(test)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Run the command line; the exit code is the process's."""
    sys.exit(app(prog_name='q2rl'))


if __name__ == '__main__':
    main()
