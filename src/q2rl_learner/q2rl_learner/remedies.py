# SPDX-License-Identifier: Apache-2.0
"""What helps where V says too little to start from: each command is told of its own options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remedies:
    """How a person asks for more rollouts ('{0}': how many), and for a method that needs no V."""

    more: str
    other: str


OF_NODES = Remedies(
    './q2rl up --resume --rollouts {0}; of a launch: resume:=true rollouts:={0}',
    '--method ibrl or rlpd; of a launch: preset:=PRESET+ibrl',
)
OF_LEARN = Remedies('--rollouts {0}, and --resume to go on with the run', '--method ibrl or rlpd')
OF_BENCH = Remedies('--methods q2rl/rollouts-50', '--methods ibrl,rlpd')
