# SPDX-License-Identifier: Apache-2.0
"""Every way the gate can be asked, and the property that nothing unsound ever moves the arm."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from q2rl_policies.gate import GateValues, QGate
from q2rl_task.episode import Mode, Source
from q2rl_task.records import Proposal, Reason

D = 3
NAN, INF = math.nan, math.inf
HOLD, BC, RL = Source.HOLD, Source.BC, Source.RL


def bc_of(log_prob=-1.0, entropy=2.0, first=0.25) -> Proposal:
    return Proposal(np.array([first, 0.0, 0.0], dtype=np.float32), log_prob, entropy, version=3)


def rl_of(first=-0.5) -> Proposal:
    return Proposal(np.array([first, 0.0, 0.0], dtype=np.float32), version=4)


def values_of(v=0.0, members=(1.5, 2.0, 3.0)) -> GateValues:
    return GateValues(v, np.array(members, dtype=np.float32), critic_version=5, value_version=6)


def decide(mode=Mode.GATED, bc=None, rl=None, values=None, **options):
    return QGate(options.pop('alpha', 1.0), D, **options).decide(mode, bc, rl, values)


CASES = [
    # Q_BC = 0 + 1 * (-1 + 2) = 1 in all of them unless said otherwise.
    (Mode.GATED, bc_of(), rl_of(), values_of(), RL, Reason.RL_HIGHER),
    (Mode.GATED, bc_of(), rl_of(), values_of(members=(0.5, 9.0, 9.0)), BC, Reason.BC_HIGHER),
    (Mode.GATED, bc_of(), rl_of(), values_of(members=(1.0, 9.0)), BC, Reason.TIE),
    (Mode.GATED, bc_of(), None, values_of(), BC, Reason.NO_RL),
    (Mode.GATED, None, rl_of(), values_of(), HOLD, Reason.NO_BC),
    (Mode.GATED, None, None, values_of(), HOLD, Reason.NOTHING),
    (Mode.GATED, bc_of(), rl_of(), None, BC, Reason.NO_CRITIC),
    (Mode.GATED, bc_of(), rl_of(), values_of(members=()), BC, Reason.NO_CRITIC),
    (Mode.GATED, bc_of(), rl_of(), values_of(members=(9.0, NAN, 9.0)), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(), rl_of(), values_of(members=(9.0, INF)), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(), rl_of(), values_of(v=NAN), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(), rl_of(), values_of(v=-INF), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(log_prob=NAN), rl_of(), values_of(), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(log_prob=-INF), rl_of(), values_of(), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(entropy=NAN), rl_of(), values_of(), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(), rl_of(NAN), values_of(), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(), rl_of(1.5), values_of(), BC, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(first=NAN), rl_of(), values_of(), HOLD, Reason.NOT_FINITE),
    (Mode.GATED, bc_of(first=INF), None, None, HOLD, Reason.NOT_FINITE),
    (Mode.BC, bc_of(), rl_of(), values_of(), BC, Reason.MODE),
    (Mode.BC, bc_of(NAN, NAN), None, None, BC, Reason.MODE),
    (Mode.BC, None, rl_of(), values_of(), HOLD, Reason.NO_BC),
    (Mode.BC, bc_of(first=NAN), rl_of(), values_of(), HOLD, Reason.NOT_FINITE),
    (Mode.BC, None, None, None, HOLD, Reason.NOTHING),
    (Mode.RL, bc_of(), rl_of(), values_of(members=(-9.0,)), RL, Reason.MODE),
    (Mode.RL, None, rl_of(), None, RL, Reason.MODE),
    (Mode.RL, bc_of(), None, values_of(), HOLD, Reason.NO_RL),
    (Mode.RL, bc_of(), rl_of(NAN), values_of(), HOLD, Reason.NOT_FINITE),
    (Mode.RL, None, None, values_of(), HOLD, Reason.NOTHING),
]


@pytest.mark.parametrize(('mode', 'bc', 'rl', 'values', 'source', 'reason'), CASES)
def test_table(mode, bc, rl, values, source, reason):
    gate = QGate(1.0, D)
    decision = gate.decide(mode, bc, rl, values)
    assert (decision.source, decision.reason) == (source, reason)
    chosen = {HOLD: np.zeros(D), BC: bc and bc.action, RL: rl and rl.action}[source]
    np.testing.assert_array_equal(decision.action, chosen)
    assert decision.action.dtype == np.float32
    assert gate.counts == {reason: 1}


def test_the_table_has_every_reason():
    assert {case[-1] for case in CASES} == set(Reason)


def test_a_decision_carries_all_it_was_based_on():
    decision = decide(bc=bc_of(), rl=rl_of(), values=values_of(), alpha=0.5)
    assert decision.q_bc == pytest.approx(0.0 + 0.5 * (-1.0 + 2.0))
    assert decision.q_rl == pytest.approx(1.5)
    assert decision.q_spread == pytest.approx(np.std([1.5, 2.0, 3.0]))
    assert (decision.v_bc, decision.bc_log_prob, decision.bc_entropy) == (0.0, -1.0, 2.0)
    assert (decision.actor_version, decision.critic_version, decision.value_version) == (4, 5, 6)
    np.testing.assert_array_equal(decision.bc_action, bc_of().action)
    np.testing.assert_array_equal(decision.rl_action, rl_of().action)


def test_what_is_absent_is_nan_or_empty():
    decision = decide(rl=rl_of())
    assert all(map(math.isnan, (decision.q_bc, decision.q_rl, decision.v_bc, decision.q_spread)))
    assert math.isnan(decision.bc_log_prob) and len(decision.bc_action) == 0
    assert (decision.critic_version, decision.value_version) == (0, 0)


def test_reasons_are_counted():
    gate = QGate(1.0, D)
    for _ in range(3):
        gate.decide(Mode.GATED, bc_of(), rl_of(), values_of())
    gate.decide(Mode.GATED, bc_of(), None, None)
    assert gate.counts == {Reason.RL_HIGHER: 3, Reason.NO_RL: 1}


def test_alpha_zero_is_the_gate_on_v_alone():
    decision = decide(bc=bc_of(NAN, NAN), rl=rl_of(), values=values_of(v=1.0), alpha=0.0)
    assert (decision.source, decision.reason, decision.q_bc) == (RL, Reason.RL_HIGHER, 1.0)


@pytest.mark.parametrize(
    ('margin', 'source', 'reason'),
    [(0.4, RL, Reason.RL_HIGHER), (0.5, BC, Reason.TIE), (0.6, BC, Reason.BC_HIGHER)],
)
def test_margin(margin, source, reason):
    decision = decide(bc=bc_of(), rl=rl_of(), values=values_of(), margin=margin)  # advantage 0.5
    assert (decision.source, decision.reason) == (source, reason)


def test_a_critic_that_disagrees_with_itself_is_not_healthy():
    wide = values_of(members=(2.0, 12.0))  # standard deviation 5
    assert decide(bc=bc_of(), rl=rl_of(), values=wide).source is RL
    decision = decide(bc=bc_of(), rl=rl_of(), values=wide, max_spread=4.0)
    assert (decision.source, decision.reason) == (BC, Reason.NO_CRITIC)
    assert decide(bc=bc_of(), rl=rl_of(), values=wide, max_spread=6.0).source is RL


def test_dwell_keeps_the_source_but_never_a_missing_one():
    gate = QGate(1.0, D, min_dwell=3)
    better, worse = values_of(), values_of(members=(0.0,))

    def sources(ticks):
        return [gate.decide(Mode.GATED, bc_of(), rl, values).source for rl, values in ticks]

    assert sources([(rl_of(), better), (rl_of(), worse), (rl_of(), worse)]) == [RL, RL, RL]
    assert sources([(rl_of(), worse), (rl_of(), better), (rl_of(), better)]) == [BC, BC, BC]
    assert sources([(rl_of(), better), (None, None), (rl_of(), better)]) == [RL, BC, BC]
    gate.reset()
    assert sources([(rl_of(), better)]) == [RL]


def test_soft_choice_follows_its_probability_and_its_seed():
    def share(seed):
        gate = QGate(1.0, D, soft_temperature=0.5, seed=seed)
        picks = [gate.decide(Mode.GATED, bc_of(), rl_of(), values_of()) for _ in range(4000)]
        assert {p.reason for p in picks} == {Reason.RL_HIGHER}
        return np.array([p.source is RL for p in picks])

    first = share(0)
    probability = 1.0 / (1.0 + math.exp(-0.5 / 0.5))
    assert abs(first.mean() - probability) < 4.0 * math.sqrt(probability * (1 - probability) / 4000)
    np.testing.assert_array_equal(first, share(0))


@pytest.mark.parametrize(
    'options',
    [
        {'alpha': -1.0},
        {'alpha': NAN},
        {'bc_value': 'v'},
        {'chooser': 'human'},
        {'margin': INF},
        {'soft_temperature': -0.1},
        {'max_spread': 0.0},
        {'max_spread': NAN},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        decide(**options)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 1e308])
vectors = st.lists(numbers, min_size=D, max_size=D).map(lambda x: np.array(x, dtype=np.float64))
actions = st.one_of(
    st.lists(st.floats(-1, 1), min_size=D, max_size=D).map(np.array),
    vectors,
    st.lists(numbers, max_size=D + 2).map(np.array),
)
proposals = st.none() | st.builds(Proposal, actions, numbers, numbers, st.integers(0, 9))
all_values = st.none() | st.builds(
    GateValues, numbers, st.lists(numbers, max_size=5).map(lambda x: np.array(x, dtype=np.float64))
)


def sound(proposal: Proposal | None) -> bool:
    return (
        proposal is not None
        and proposal.action.shape == (D,)
        and bool((np.abs(proposal.action) <= 1.0).all())
    )


@settings(max_examples=600)
@given(
    st.sampled_from(Mode),
    proposals,
    proposals,
    all_values,
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0, 3]),
    st.sampled_from([0.0, 1.0]),
)
def test_nothing_unsound_ever_moves_the_arm(mode, bc, rl, values, alpha, min_dwell, soft):
    gate = QGate(alpha, D, min_dwell=min_dwell, soft_temperature=soft)
    if min_dwell:  # RL is in the middle of a dwell
        assert (
            gate.decide(Mode.GATED, bc_of(), rl_of(), values_of(v=-9.0, members=(1e3,))).source
            is not HOLD
        )
    decision = gate.decide(mode, bc, rl, values)
    assert decision.action.shape == (D,)
    assert np.isfinite(decision.action).all() and (np.abs(decision.action) <= 1.0).all()
    assert sum(gate.counts.values()) == (2 if min_dwell else 1)
    if decision.source is RL:
        assert sound(rl)
        if mode is not Mode.RL:
            assert mode is Mode.GATED and sound(bc) and values is not None
            assert len(values.q_rl_members) and np.isfinite(values.q_rl_members).all()
            assert math.isfinite(values.v)
            assert alpha == 0.0 or (math.isfinite(bc.log_prob) and math.isfinite(bc.entropy))
            if not min_dwell and not soft:
                assert decision.reason is Reason.RL_HIGHER and decision.q_rl > decision.q_bc
    if decision.source is BC:
        assert sound(bc) and mode is not Mode.RL
    if mode is Mode.GATED and sound(bc):
        assert decision.source is not HOLD  # BC is always there to fall back on


def rated(rl_members, bc_members) -> GateValues:
    return GateValues(NAN, np.array(rl_members), q_bc_members=np.array(bc_members))


@pytest.mark.parametrize(
    ('rl_members', 'bc_members', 'source', 'reason'),
    [
        ((2.0, 3.0), (1.0, 9.0), RL, Reason.RL_HIGHER),
        ((2.0, 3.0), (2.5, 9.0), BC, Reason.BC_HIGHER),
        ((2.0, 3.0), (2.0, 9.0), BC, Reason.TIE),
        ((2.0, 3.0), (), BC, Reason.NO_CRITIC),
        ((2.0, 3.0), (1.0, NAN), BC, Reason.NOT_FINITE),
    ],
)
def test_one_critic_for_both_asks_neither_v_nor_a_density(rl_members, bc_members, source, reason):
    bc = bc_of(log_prob=NAN, entropy=NAN)
    made = decide(bc=bc, rl=rl_of(), values=rated(rl_members, bc_members), bc_value='critic')
    assert (made.source, made.reason) == (source, reason)
    assert math.isnan(made.v_bc)
    if reason in (Reason.RL_HIGHER, Reason.BC_HIGHER, Reason.TIE):
        assert (made.q_rl, made.q_bc) == (min(rl_members), min(bc_members))


@pytest.mark.parametrize(
    ('rl_members', 'bc_members', 'source', 'reason'),
    [
        ((2.0, 3.0), (0.0, 3.0), RL, Reason.RL_HIGHER),
        ((2.0, 9.0), (1.0, 4.0), BC, Reason.BC_HIGHER),  # the least of RL against the mean of BC
        ((2.0, 3.0), (1.0, 3.0), BC, Reason.TIE),
        ((2.0, 3.0), (), BC, Reason.NO_CRITIC),
        ((2.0, 3.0), (1.0, NAN), BC, Reason.NOT_FINITE),
    ],
)
def test_a_q_fitted_to_bc_rates_it_by_its_mean_and_asks_no_density(
    rl_members, bc_members, source, reason
):
    values = GateValues(-1.5, np.array(rl_members), q_bc_members=np.array(bc_members))
    bc = bc_of(log_prob=NAN, entropy=NAN)
    made = decide(bc=bc, rl=rl_of(), values=values, bc_value='fitted')
    assert (made.source, made.reason, made.v_bc) == (source, reason, -1.5)
    if reason in (Reason.RL_HIGHER, Reason.BC_HIGHER, Reason.TIE):
        assert (made.q_rl, made.q_bc) == (min(rl_members), sum(bc_members) / 2)


@pytest.mark.parametrize(('chooser', 'source', 'missing'), [('rl', RL, 'rl'), ('bc', BC, 'bc')])
def test_a_gated_episode_of_one_policy_alone(chooser, source, missing):
    best_for_the_other = values_of(members=(-99.0,) if chooser == 'rl' else (99.0,))
    proposals = {'bc': bc_of(), 'rl': rl_of(), 'values': best_for_the_other}
    assert decide(**proposals, chooser=chooser).source is source
    assert decide(**{**proposals, missing: None}, chooser=chooser).source is HOLD
    # The mode of an episode still goes first.
    assert decide(Mode.BC, **proposals, chooser='rl').source is BC
    assert decide(Mode.RL, **proposals, chooser='bc').source is RL


@settings(max_examples=400)
@given(st.sampled_from(Mode), proposals, proposals, all_values, st.sampled_from([0.0, 1.0]))
def test_in_the_shadow_no_action_of_rl_is_ever_chosen(mode, bc, rl, values, soft):
    gate = QGate(1.0, D, chooser='shadow', soft_temperature=soft)
    for _ in range(3):
        decision = gate.decide(mode, bc, rl, values)
        acts = sound(bc) and mode is not Mode.RL
        assert decision.source is (BC if acts else HOLD)
        expected = bc.action if acts else np.zeros(D)
        np.testing.assert_array_equal(decision.action, expected.astype(np.float32))


def test_rl_is_not_let_out_of_the_shadow_where_it_is_worth_more():
    """The plain case of the property above, which `q2rl test --prove` takes the protection away from."""
    for mode in Mode:
        decision = decide(mode, bc_of(), rl_of(), values_of(members=(99.0,)), chooser='shadow')
        assert decision.source is not RL
        assert not np.array_equal(decision.action, rl_of().action)
        assert (decision.would_act, decision.reason) == (RL, Reason.RL_HIGHER)


@pytest.mark.parametrize('mode', [Mode.GATED, Mode.BC])
@pytest.mark.parametrize('case', [case for case in CASES if case[0] is Mode.GATED])
def test_the_shadow_judges_as_the_gate_does(mode, case):
    _, bc, rl, values, source, reason = case
    decision = decide(mode, bc, rl, values, chooser='shadow')
    assert (decision.would_act, decision.reason) == (source, reason)
    np.testing.assert_array_equal(decision.rl_action, rl.action if rl else np.zeros(0))


def test_the_shadow_dwells_by_what_it_would_have_chosen():
    gate, shadow = (QGate(1.0, D, min_dwell=3, chooser=c) for c in ('gate', 'shadow'))
    ticks = [values_of(members=(q,)) for q in (9.0, 0.0, 0.0, 0.0, 9.0, 9.0, 0.0)]
    acted = [gate.decide(Mode.GATED, bc_of(), rl_of(), v).source for v in ticks]
    would = [shadow.decide(Mode.BC, bc_of(), rl_of(), v) for v in ticks]
    assert [decision.would_act for decision in would] == acted
    assert {decision.source for decision in would} == {BC}


def test_an_episode_of_one_policy_tells_whom_the_values_are_for():
    worth_more = {'bc': bc_of(), 'rl': rl_of(), 'values': values_of(members=(9.0,))}
    for mode, source in ((Mode.BC, BC), (Mode.RL, RL)):
        decision = decide(mode, **worth_more)
        assert (decision.source, decision.reason) == (source, Reason.MODE)
        assert decision.would_act is RL
    assert decide(Mode.RL, **{**worth_more, 'values': values_of(members=(0.0,))}).would_act is BC
