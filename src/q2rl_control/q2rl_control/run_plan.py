# SPDX-License-Identifier: Apache-2.0
"""The course of a run: which phase it is in, what the next episode is, when a phase is over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from q2rl_control.episode_plan import EpisodePlan, EpisodeResult
from q2rl_control.performance_watch import Fault
from q2rl_control.run_progress import PhaseCounts, RunProgress
from q2rl_control.run_settings import GOAL_EPISODES, RunSettings
from q2rl_task import InputError, LearnerState, Mode, Phase, episode_seed
from q2rl_task.episode import AFTER_ONLINE, LEARNING, LIFE

STREAMS = {
    Phase.DEMONSTRATING: ('demonstration', 'd'),
    Phase.ESTIMATING: ('estimating', 'e'),
    Phase.ONLINE: ('online', 'o'),
    Phase.EVALUATING: ('evaluating', 'v'),
}
"""Of the phases with episodes: the stream of their seeds, and the letter in their ids."""
RESTING = (Phase.PAUSED, Phase.STOPPED, Phase.FINISHED)
NOTHING_LEARNED = (
    ' (this run only evaluates: run_dir must hold the folder learner/ of a run that has learned)'
)
AWAITS_SCENE = 'a person prepares the scene: resume when it is ready'
ALARM = 'success fell below that of BC, which acts alone until it is clear why'
"""The event with which a doubt begins."""


class Command(IntEnum):
    """What an operator may ask of a run (values of q2rl_msgs/RunCommand)."""

    PAUSE = 0
    RESUME = 1
    STOP = 2
    EVALUATE = 3


@dataclass(frozen=True)
class LearnerReport:
    """What the plan needs of the learner's status.

    detail: why it failed or is unsure, if it is; what to know of a fit that is good enough. rollouts: those that its
    last fit was on.
    """

    state: LearnerState
    detail: str = ''
    weights_version: int = 0
    rollouts: int = 0


class RunPlan:
    """Decide phases and episodes from finished episodes, the learner's reports and operators' commands.

        STARTING -> ESTIMATING -> FITTING -> ONLINE -> SETTLING -> EVALUATING -> FINISHED
                                                |^
                                             GRADUATED -> SETTLING

    PAUSED and STOPPED from anywhere. A run of demonstrations: STARTING -> DEMONSTRATING -> FINISHED. One that is past
    ONLINE goes back to it where it is taken up with more steps or another goal, and is then evaluated on other scenes.

    :param progress: of an earlier process of the same run, to go on from; else a fresh run
    """

    def __init__(self, settings: RunSettings, progress: RunProgress | None = None) -> None:
        self.settings = settings
        self.progress = progress or RunProgress(settings.run_id, settings.seed)
        if (self.progress.run_id, self.progress.seed) != (settings.run_id, settings.seed):
            raise InputError(
                'parameters `run_id` and `seed`',
                f'are those of another run than the saved {self.progress.run_id}'
                f' with seed {self.progress.seed}',
                'use the same, or another run_dir',
            )
        demonstrated = settings.demonstrations > 0
        self.progress.check_kind(demonstrated, settings.online_steps > 0 and not demonstrated)
        if settings.demonstrations and self.phase is Phase.FINISHED:
            self._enter(self._onward(Phase.DEMONSTRATING))  # more are wanted now, perhaps
        self._settle_first()
        self._learn_on()

    @property
    def phase(self) -> Phase:
        """Where the run stands."""
        return self.progress.phase

    @property
    def detail(self) -> str:
        """Why it stands there, where that needs saying."""
        return self.progress.detail

    @property
    def episodes_planned(self) -> int:
        """Episodes of the present phase in all; 0 where it does not count episodes."""
        if self.phase is Phase.ESTIMATING:
            return self._rollouts
        if self.phase is Phase.EVALUATING:
            return self._evaluated_before + self._evaluation_length
        return 0

    @property
    def online_steps(self) -> int:
        """Transitions of the online phase so far, of finished episodes."""
        return self.progress.of(Phase.ONLINE).transitions

    def start(self) -> None:
        """Leave STARTING, once every node is there."""
        if self.phase is Phase.STARTING:
            self._enter(self._onward(self._first))

    def next_episode(self) -> EpisodePlan | None:
        """Return what to run next, or None where the phase runs no episodes. Repeatable: it changes nothing."""
        phase = self.phase
        if phase not in (*STREAMS, Phase.GRADUATED):
            return None
        stream = Phase.ONLINE if phase in LEARNING else phase
        settings, number = self.settings, self.progress.of(stream).episodes + 1
        mode, seed_number, explore = Mode.BC, number, False
        if stream is Phase.DEMONSTRATING:
            mode = Mode.HUMAN
        elif stream is Phase.ONLINE:
            mode = self._online_mode(number)
            explore = mode is Mode.GATED
            if explore and phase is Phase.GRADUATED and settings.drop_bc:
                mode = Mode.RL
        elif phase is Phase.EVALUATING:
            modes, before = settings.evaluation_modes, self._evaluated_before
            mode = modes[(number - 1 - before) % len(modes)]
            seed_number = before + (number - 1 - before) // len(modes) + 1
        seed_stream, letter = STREAMS[stream]
        seed = episode_seed(settings.seed, seed_stream, seed_number)
        name = f'{settings.run_id}-{letter}{number:04d}'
        if self.progress.attempts:
            name += f'-{self.progress.attempts}'
        if self.progress.life:
            name += f'{LIFE}{self.progress.life}'
        return EpisodePlan(name, stream, mode, seed, number, explore)

    def episode_dropped(self) -> None:
        """Note that the episode under way came to nothing; the same one is next, under a fresh id."""
        self.progress.attempts += 1

    def scene_used(self) -> None:
        """Pause before the next episode, if there is one, where a person sets the scene up again."""
        if self.settings.pause_after_episode and self.next_episode() is not None:
            self._rest(Phase.PAUSED, '; '.join(filter(None, (self.detail, AWAITS_SCENE))))

    def episode_finished(self, plan: EpisodePlan, result: EpisodeResult) -> bool:
        """Count a finished episode and go on to the next phase where this one is over; return whether it counts.

        One that was interrupted is no result. Rollouts and evaluations are done again, like one that came to nothing;
        an online episode only spends its transitions. So is a rollout that the learner has in part only, since V is
        fitted to whole ones.
        """
        in_part = plan.phase is Phase.ESTIMATING and not result.whole
        if in_part or (result.interrupted and plan.phase is not Phase.ONLINE):
            self.episode_dropped()
            self.scene_used()
            return False
        counts = self.progress.counts.setdefault(plan.phase.name, PhaseCounts())
        counts.episodes += 1
        counts.successes += result.success
        counts.transitions += result.transitions
        counts.interventions += result.interventions
        counts.robot_time_s += result.robot_time_s
        for source, steps in result.by_source.items():
            counts.by_source[source] = counts.by_source.get(source, 0) + steps
        if not result.interrupted:
            mode = counts.by_mode.setdefault(plan.mode.name, {'episodes': 0, 'successes': 0})
            mode['episodes'] += 1
            mode['successes'] += int(result.success)
            if plan.explore:
                self.progress.recent = [*self.progress.recent, result.success][-GOAL_EPISODES:]
        self.progress.attempts = 0
        learning = plan.phase is Phase.ONLINE and self.phase in LEARNING
        if (plan.phase is self.phase or learning) and self._over(plan.phase):
            self._enter(self._onward(plan.phase))
            if self._reached_goal and learning:
                reached = f'{sum(self.progress.recent)} of the last {GOAL_EPISODES} gated episodes'
                found = f'{reached} succeeded: learned enough'
                self._tell(plan, self.phase, found)
            learning = False
        if plan.phase in (Phase.ESTIMATING, Phase.ONLINE) and not result.interrupted:
            self._judge(plan, result, learning)
        self.scene_used()
        return True

    def _judge(self, plan: EpisodePlan, result: EpisodeResult, learning: bool) -> None:
        """Graduate, take that back, or go back, where the episodes so far are evidence enough."""
        settings, progress, watch = self.settings, self.progress, self.progress.watch
        fault = None
        if plan.explore:
            watch.learned_from(result.success, result.weights_version)
        elif plan.mode is Mode.RL or not result.helped:
            # People help where a policy fails. Without the episodes that they helped in, a policy looks better than it
            # is: of RL those count as failures, and of BC, which RL is to beat, not at all.
            fault = watch.measured(plan.mode, result.success)
        if not learning:
            return
        if fault is Fault.WEIGHTS:
            version = watch.rolled_back()
            self._turn_back(plan, version, f'BC still succeeds: back to weights {version}')
        elif fault is Fault.WORLD:
            watch.world_changed()
            self._turn_back(plan, 0, 'BC fails as well: the task has changed, V is fitted anew')
        elif watch.in_doubt:
            return
        elif 0 < settings.drift_evidence <= watch.evidence_of_drop:
            watch.doubt()
            progress.graduated_at = 0
            self._tell(plan, Phase.ONLINE, ALARM)
        elif (
            self.phase is Phase.ONLINE
            and settings.graduation_evidence > 0
            and watch.graduates(settings.graduation_evidence)
        ):
            watch.graduations += 1
            progress.graduated_at = plan.number
            watch.rl_alone = []
            pairs = f'{watch.wins} to {watch.losses} of the pairs in which only one succeeded'
            self._tell(plan, Phase.GRADUATED, f'RL alone beats BC: {pairs}')
        elif (
            self.phase is Phase.GRADUATED
            and 0 < settings.graduation_evidence <= watch.evidence_of_rl_drop
        ):
            progress.graduated_at = 0
            watch.compare_anew()
            self._tell(plan, Phase.ONLINE, 'success of RL alone fell below that of BC')

    def _turn_back(self, plan: EpisodePlan, version: int, text: str) -> None:
        self.progress.rollbacks += 1
        self.progress.recent = []
        self.progress.rollback_version = version
        self._tell(plan, Phase.ONLINE, text)

    def _tell(self, plan: EpisodePlan, phase: Phase, text: str) -> None:
        """Enter a phase for something that was found out, and keep what it was."""
        self.progress.events.append([plan.number, text])
        self._enter(phase, text)

    def learner_reported(self, report: LearnerReport) -> None:
        """Take the learner's status: it ends FITTING and SETTLING, and a failed learner stops the run.

        One that is unsure after its fit gets more rollouts, as long as there may be more.
        """
        before = self.phase
        if report.state is LearnerState.UNSURE and self.phase is Phase.FITTING:
            self._draw_out(report)
        if report.state is LearnerState.FAILED and self.phase not in RESTING:
            nothing = '' if self.settings.rollouts else NOTHING_LEARNED
            self._stop(f'the learner failed: {report.detail or "see its log"}{nothing}')
        fitted = report.state in (LearnerState.READY, LearnerState.TRAINING)
        if self.phase is Phase.FITTING and fitted:
            if report.detail:  # for the report: it asks nothing of anybody
                self.progress.events.append([0, report.detail])
            self._enter(self._onward(Phase.ONLINE))
        elif self.phase is Phase.SETTLING and report.state is LearnerState.SETTLED:
            self.progress.last_weights = report.weights_version
            self._enter(self._onward(Phase.EVALUATING))
        if self.phase is not before:
            self.scene_used()

    def _draw_out(self, report: LearnerReport) -> None:
        """Run more rollouts, or stop where there are as many as there may be."""
        settings, done = self.settings, self.progress.of(Phase.ESTIMATING).episodes
        if report.rollouts < done:
            return  # it speaks of an earlier fit
        most = settings.most_rollouts or 3 * settings.rollouts
        more = min(max(1, settings.rollouts // 2), most - done)
        if more <= 0:
            self._stop(report.detail)
            return
        self.progress.drawn_out_to = done + more
        self._enter(Phase.ESTIMATING, f'{more} more, since V says too little after {done}')

    def learner_gone(self, detail: str) -> None:
        """End SETTLING without the learner: what it sent last is what is evaluated."""
        if self.phase is Phase.SETTLING:
            self._enter(self._onward(Phase.EVALUATING), detail)
            self.scene_used()

    def command(self, command: Command) -> str | None:
        """Carry out an operator's command; return why not, or None where it is done."""
        phase = self.phase
        if command is Command.PAUSE:
            if phase in RESTING:
                return f'the run is {phase.name.lower()}'
            self._rest(Phase.PAUSED, 'paused by an operator')
        elif command is Command.RESUME:
            if not self.progress.resting:
                return 'the run is not paused or stopped'
            back_to = self.progress.back_to
            # A fit that failed may have been given more rollouts since.
            self._enter(self._onward(Phase.ESTIMATING if back_to is Phase.FITTING else back_to))
        elif command is Command.STOP:
            if phase in (Phase.STOPPED, Phase.FINISHED):
                return f'the run is {phase.name.lower()}'
            self._stop('stopped by an operator')
        elif command is Command.EVALUATE:
            if phase not in LEARNING:
                return 'only the online phase can be left for evaluation'
            self._enter(Phase.SETTLING)
        return None

    def fail(self, detail: str) -> None:
        """Stop the run for a fault; RESUME goes on from here."""
        if self.phase not in (Phase.STOPPED, Phase.FINISHED):
            self._stop(detail)

    def _online_mode(self, number: int) -> Mode:
        """Return the mode of an online episode; the BC-only and RL-only ones are spread half a cycle apart.

        An RL-only one that falls on a BC-only one comes after it.
        """
        settings = self.settings
        if self.progress.watch.in_doubt:
            return Mode.BC
        graduated = self.phase is Phase.GRADUATED
        every = settings.bc_only_every_graduated if graduated else settings.bc_only_every
        rl_every = settings.rl_only_every

        def measures_bc(which: int) -> bool:
            return every > 0 and which % every == 0

        def measures_rl(which: int) -> bool:
            return rl_every > 0 and which % rl_every == rl_every // 2

        if measures_bc(number):
            return Mode.BC
        before = number - 1
        if measures_rl(number) or (measures_rl(before) and measures_bc(before)):
            return Mode.RL
        return Mode.GATED

    def _settle_first(self) -> None:
        """Let a learner say what it has before that is evaluated, where what acted until now was given."""
        progress = self.progress
        unheard = self.settings.needs_learner and not progress.last_weights
        if progress.at is Phase.EVALUATING and unheard:
            progress.move_to(Phase.SETTLING)

    def _learn_on(self) -> None:
        """Go back to the online phase, where the run was done with it and is given more steps, or another goal."""
        settings, progress = self.settings, self.progress
        told = [settings.online_steps, settings.goal]
        if not settings.online_steps or told == progress.learn_until:
            return
        progress.learn_until = told
        if progress.at not in AFTER_ONLINE or self._over(Phase.ONLINE):
            return
        evaluated = progress.of(Phase.EVALUATING).episodes
        if evaluated > self._evaluated_before:
            progress.superseded.append([evaluated, self.online_steps])
        progress.last_weights = 0
        progress.move_to(self._onward(Phase.ONLINE))

    @property
    def _evaluated_before(self) -> int:
        """Evaluation episodes of before the run was last given more to learn."""
        superseded = self.progress.superseded
        return superseded[-1][0] if superseded else 0

    @property
    def _evaluation_length(self) -> int:
        return self.settings.evaluation_episodes * len(self.settings.evaluation_modes)

    @property
    def _rollouts(self) -> int:
        return max(self.settings.rollouts, self.progress.drawn_out_to)

    @property
    def _reached_goal(self) -> bool:
        goal, recent = self.settings.goal, self.progress.recent
        return 0 < goal * GOAL_EPISODES <= 100 * sum(recent)

    @property
    def _first(self) -> Phase:
        return Phase.DEMONSTRATING if self.settings.demonstrations else Phase.ESTIMATING

    def _over(self, phase: Phase) -> bool:
        settings, counts = self.settings, self.progress.of(phase)
        if phase is Phase.DEMONSTRATING:
            return counts.successes >= settings.demonstrations
        if phase is Phase.ESTIMATING:
            return counts.episodes >= self._rollouts
        if phase is Phase.FITTING:
            return not settings.rollouts
        if phase is Phase.SETTLING:
            return not settings.needs_learner
        if phase is Phase.ONLINE:
            return counts.transitions >= settings.online_steps or self._reached_goal
        if phase is Phase.EVALUATING:
            return counts.episodes - self._evaluated_before >= self._evaluation_length
        return False

    def _onward(self, phase: Phase) -> Phase:
        """Return `phase` or the first after it that is not over."""
        if phase is Phase.DEMONSTRATING:
            return Phase.FINISHED if self._over(phase) else phase
        order = [
            Phase.ESTIMATING,
            Phase.FITTING,
            Phase.ONLINE,
            Phase.SETTLING,
            Phase.EVALUATING,
        ]
        rest = order[order.index(Phase.ONLINE if phase in LEARNING else phase) :]
        onward = next((p for p in rest if not self._over(p)), Phase.FINISHED)
        if onward is Phase.ONLINE and self.progress.graduated_at:
            return Phase.GRADUATED
        return onward

    def _enter(self, phase: Phase, detail: str = '') -> None:
        self.progress.phase, self.progress.detail = phase, detail

    def _rest(self, phase: Phase, detail: str) -> None:
        if self.phase is not Phase.PAUSED:
            self.progress.back_to = self._first if self.phase is Phase.STARTING else self.phase
        self._enter(phase, detail)

    def _stop(self, detail: str) -> None:
        self._rest(Phase.STOPPED, detail)
