# SPDX-License-Identifier: Apache-2.0
"""What `q2rl adopt` finds out about a policy: whether it fits, whether its density is one, and what that means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from q2rl_lab.checks import Finding, Level
from q2rl_lab.statistics import Rate
from q2rl_policies.bc import BCPolicy
from q2rl_policies.policy_file import LoadedBC
from q2rl_policies.policy_spec import InputMap
from q2rl_task import InputError, Proposal, TaskSpec

STANDARD_ERRORS = 4.0
"""How far from zero the mean of log p + H over samples may lie."""
TOLERANCE = 0.02
"""[nat] What rounding may add to that."""
CLIPPED_SHARE = 0.2
USUAL_INPUT = 10.0
NOT_MEASURED = (
    'Whether it ever succeeds was not measured: a run begins with rollouts of BC alone, and by Q2RL it goes on only if '
    'one of them succeeds.'
)


class Listener:
    """A BC policy that remembers what it was shown and what it proposed, episode by episode.

    :param what: the policy in a few words, for an error
    """

    def __init__(self, policy: BCPolicy, what: str) -> None:
        self._policy, self._what = policy, what
        self.contract, self.version = policy.contract, policy.version
        self.recurrent = policy.recurrent
        self.seen: list[list[np.ndarray]] = []
        self.proposed: list[Proposal] = []

    def reset(self) -> None:
        """Begin an episode."""
        self._policy.reset()
        self.seen.append([])

    def act(self, observation: np.ndarray) -> Proposal:
        """Let the policy propose.

        :raises InputError: its very first action is not finite: no episode is worth running then
        """
        proposal = self._policy.act(observation)
        if not self.proposed and not np.isfinite(proposal.action).all():
            remedy = 'mend the policy, or what it is shown'
            raise InputError(self._what, 'the action is not finite, from the first on', remedy)
        self.seen[-1].append(observation)
        self.proposed.append(proposal)
        return proposal

    def episodes(self) -> list[np.ndarray]:
        """Return the observations of each episode, (T, O) float32."""
        return [np.stack(episode).astype(np.float32) for episode in self.seen if episode]


@dataclass
class Measured:
    """What episodes of a policy showed. `by_mode`: the same scenes, acting by the mode; None where there is none."""

    proposed: Sequence[Proposal]
    seen: Sequence[np.ndarray]
    success: Rate
    by_mode: Rate | None = None
    distilled: Rate | None = None
    notes: list[str] = field(default_factory=list)


def check_contract(loaded: LoadedBC, task: TaskSpec) -> Finding:
    """What the policy was fitted to; that it fits was found out when it was loaded."""
    text = (
        f'{loaded.what} on the {task.observation_size} numbers of task {task.name}, '
        f'{task.action_size} out, contract {task.contract_hash}'
    )
    return Finding('contract', Level.OK, text)


def check_inputs(shown: InputMap | None, seen: Sequence[np.ndarray]) -> Finding:
    """Whether what the network is shown looks like what it was trained on: numbers of order one."""
    if shown is None:
        text = 'not checked: the policy normalises by itself'
        return Finding('normalisation', Level.SKIP, text)
    inputs = np.concatenate([shown.gain * e[:, shown.index] + shown.bias for e in seen])
    largest = np.quantile(np.abs(inputs), 0.99, axis=0)
    worst = int(np.argmax(largest))
    text = f'99 % of every input lie within +-{largest[worst]:.1f}, worst is number {worst}'
    if largest[worst] <= USUAL_INPUT:
        return Finding('normalisation', Level.OK, text)
    remedy = 'compare `scale`, `mean` and `std` with those of the training, or the units'
    return Finding('normalisation', Level.WARN, text, remedy)


def check_actions(proposed: Sequence[Proposal]) -> Finding:
    """Whether actions are finite and of the size of the task's."""
    actions = np.stack([p.action for p in proposed])
    broken = ~np.isfinite(actions).all(1)
    if broken.any():
        text = f'{broken.sum()} of {len(actions)} are not finite'
        return Finding('actions', Level.FAIL, text, 'mend the policy, or what it is shown')
    clipped = float((np.abs(actions) >= 1.0).mean())
    text = (
        f'typically {np.abs(actions).mean():.2f} of the largest; {100 * clipped:.0f} % at the limit'
    )
    if clipped > CLIPPED_SHARE:
        remedy = 'if the policy is in other units: `scale` and `offset` of `actions`'
        return Finding('actions', Level.WARN, text, remedy)
    return Finding('actions', Level.OK, text)


def check_density(loaded: LoadedBC, proposed: Sequence[Proposal], distils: bool = False) -> Finding:
    """Whether log_prob and entropy are of one distribution: over its samples, log p + H has the mean zero.

    :param distils: a mixture is to take its place
    """
    if not loaded.has_density and distils:
        return Finding('density', Level.OK, 'none of its own: the mixture gives one')
    if not loaded.has_density:
        text = 'none: it says what to do, not how likely that is'
        return Finding('density', Level.WARN, text, 'distil a mixture (--distil)')
    sums = np.array([p.log_prob + p.entropy for p in proposed])
    if not np.isfinite(sums).all():
        text = f'log_prob or entropy is not finite in {(~np.isfinite(sums)).sum()} of {len(sums)}'
        return Finding('density', Level.FAIL, text, 'mend the policy, or distil it (--distil)')
    mean, error = float(sums.mean()), float(sums.std() / np.sqrt(len(sums)))
    text = (
        f'mean of log p + H over {len(sums)} samples {mean:+.3f} nat (standard error {error:.3f})'
    )
    if abs(mean) <= STANDARD_ERRORS * error + TOLERANCE:
        return Finding('density', Level.OK, text)
    remedy = (
        'log_prob and entropy must be of the one distribution that is sampled, in nats; or --distil'
    )
    return Finding('density', Level.FAIL, f'{text}, and it should be 0', remedy)


@dataclass(frozen=True)
class Verdict:
    """Whether Q2RL applies; None: that was not measured.

    use: which policy is to be used, 'adopted', 'distilled' or none.
    """

    applies: bool | None
    use: str
    text: str
    next: str


def judge(
    findings: Sequence[Finding],
    loaded: LoadedBC,
    measured: Measured,
    improve: Callable[[str], str],
    distil: str,
) -> Verdict:
    """Say in plain words whether Q2RL applies, and what to do next.

    :param improve: the command that then improves it, by a method
    :param distil: the command that adopts a mixture of it instead
    """
    levels = {finding.name: finding.level for finding in findings}
    if levels['actions'] is Level.FAIL:
        text = 'Q2RL does not apply: the policy proposes actions that are not finite.'
        return Verdict(False, '', text, 'mend the policy, and adopt it again')
    if measured.distilled is not None:
        return _judge_distilled(measured, improve)
    if levels['density'] is Level.FAIL:
        text = 'Q2RL does not apply: what the policy says of its own likelihood is wrong.'
        return Verdict(False, '', text, f'mend log_prob and entropy, or: {distil}')
    if measured.success.n and not measured.success.successes:
        return Verdict(False, 'adopted', _never(measured.success), _train_better(measured))
    if not loaded.has_density:
        text = (
            'Q2RL applies in part: there is no density, so the gate rates BC by its value alone (method q2rl/alpha-0). '
            'A distilled mixture has a density; or the critics rate BC (method ibrl).'
        )
        if not measured.success.n:
            text += f' {NOT_MEASURED}'
        remedy = f'{improve("q2rl/alpha-0")}, or: {distil}, or: {improve("ibrl")}'
        return Verdict(False, 'adopted', text, remedy)
    if not measured.success.n:
        return Verdict(None, 'adopted', f'Its density is sound. {NOT_MEASURED}', improve('q2rl'))
    text = (
        'Q2RL applies: the density is sound, and the policy succeeds now and then by its samples.'
    )
    return Verdict(True, 'adopted', text + _mode_note(measured), improve('q2rl'))


def _judge_distilled(measured: Measured, improve: Callable[[str], str]) -> Verdict:
    rate = measured.distilled
    if not rate.successes and rate.n:
        text = f'The distilled mixture did not work: {_never(rate)}'
        own = measured.success
        if not own.successes:
            return Verdict(False, 'distilled', text, _train_better(measured))
        text += f' The policy itself did ({own.successes} of {own.n}).'
        remedy = (
            'distil on more episodes (-n), or adopt the policy itself, without --distil, and let the critics rate it '
            '(--method ibrl)'
        )
        return Verdict(False, 'distilled', text, remedy)
    text = (
        'Q2RL applies to the distilled mixture: BC is then the mixture, not the policy that it was '
        'fitted to.'
    )
    own = measured.success
    if rate.as_dict()['wilson'][1] < own.as_dict()['wilson'][0]:
        text += (
            f' It succeeds less often ({rate.successes} of {rate.n}, against {own.successes} of '
            f'{own.n}): distil on more episodes (-n, --demonstrations), or take the policy itself and '
            'let the critics rate it (--method ibrl).'
        )
    if not rate.n:
        return Verdict(None, 'distilled', NOT_MEASURED, improve('q2rl'))
    return Verdict(True, 'distilled', text, improve('q2rl'))


def _never(rate: Rate) -> str:
    high = rate.as_dict()['wilson'][1]
    return (
        f'Q2RL does not apply yet: no success in {rate.n} episodes (below {100 * high:.0f} %, 95 %), and without '
        'any a value of BC says nothing.'
    )


def _train_better(measured: Measured) -> str:
    if measured.by_mode is not None and measured.by_mode.successes:
        return (
            f'by its mode it succeeds ({measured.by_mode.successes} of {measured.by_mode.n}): its samples are too '
            'wild; clone with less noise, or a smaller min_std'
        )
    return 'clone more or better demonstrations; check order, units and scale of its inputs'


def _mode_note(measured: Measured) -> str:
    sampled, mode = measured.success, measured.by_mode
    if mode is None or mode.as_dict()['wilson'][0] <= sampled.as_dict()['wilson'][1]:
        return ''
    return (
        ' By its mode it succeeds more often; Q2RL takes samples all the same, since at the mode '
        'log p + H is nearly a constant and tells the gate nothing.'
    )


def as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as plain data, by name."""
    return {f.name: {'level': f.level.value, 'text': f.text, 'remedy': f.remedy} for f in findings}
