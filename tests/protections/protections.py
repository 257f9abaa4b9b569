# SPDX-License-Identifier: Apache-2.0
"""Every protection, the test that must notice its absence, and how it is taken out: `q2rl test --prove`.

This is also the pytest plugin that takes one out, by `--take-out NAME`, before any test or conftest is imported: what
these bind by name is then changed already. Nothing in the production code knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import pytest

CONTROL = 'src/q2rl_control/test'
GUARD = f'{CONTROL}/test_control_guard.py'
RANDOM = f'{CONTROL}/test_control_guard_random.py'
LOGIC = f'{CONTROL}/test_control_arm_logic.py'
COMMAND = f'{CONTROL}/test_control_arm_command.py'
LABELS = f'{CONTROL}/test_control_episode_labels.py'
PROTECTIONS_OF_LOGIC = f'{CONTROL}/test_control_protections.py'
LATCH = f'{CONTROL}/test_control_safety_latch.py'
PANEL = f'{CONTROL}/test_control_operator_panel.py'
NODES = f'{CONTROL}/test_control_nodes.py'
TRACKING = f'{CONTROL}/test_control_joint_tracking.py'
SERVO = f'{CONTROL}/test_control_servo_sink.py'
TELEOP = f'{CONTROL}/test_control_teleop.py'
SPEC = 'src/q2rl_task/test/test_task_spec.py'
GATE = 'src/q2rl_policies/test/test_policies_gate.py'
INPUTS = f'{CONTROL}/test_control_sensor_inputs.py'
FRAMES = f'{CONTROL}/test_control_wrench_frames.py'
FOLLOW = f'{CONTROL}/test_control_follow_watch.py'
BETWEEN = f'{CONTROL}/test_control_interpolation.py'
READY = f'{CONTROL}/test_control_arm_readiness.py'
TARE = f'{CONTROL}/test_control_wrench_tare.py'
SCENE = 'tests/nodes/test_fixed_scene.py'
PLANS = 'tests/planning/test_planner_contract.py'
STEERING = 'src/q2rl_bringup/test/test_bringup_steering.py'
GRAPH = 'src/q2rl_bringup/test/test_bringup_node_graph.py'
OUTSIDE = f'{CONTROL}/test_control_outside_workspace.py'
ARMING = f'{CONTROL}/test_control_arming.py'
GRIPPER = f'{CONTROL}/test_control_gripper_action.py'


@dataclass(frozen=True)
class Protection:
    """One protection. test: a pytest node id. take_out: changes modules of this process for good."""

    name: str
    test: str
    take_out: Callable[[], None]


PROTECTIONS: list[Protection] = []


def without(name: str, test: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a protection by the function that takes it out."""

    def enter(take_out: Callable[[], None]) -> Callable[[], None]:
        PROTECTIONS.append(Protection(name, test, take_out))
        return take_out

    return enter


def pytest_addoption(parser) -> None:
    """Add `--take-out NAME`."""
    parser.addoption('--take-out', help='Name of the protection to take out.')


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config) -> None:
    """Take the protection out."""
    name = early_config.known_args_namespace.take_out
    if name:
        next(p for p in PROTECTIONS if p.name == name).take_out()


def around(owner: object, name: str, change: Callable) -> None:
    """Replace a function by `change(original, *args, **kwargs)`."""
    original = getattr(owner, name)

    @wraps(original)
    def changed(*args, **kwargs):
        return change(original, *args, **kwargs)

    setattr(owner, name, changed)


# What comes in

BAD_ACTIONS = f'{GUARD}::test_a_bad_action_is_rejected_as_a_whole_and_holds'
ANSWERS = f'{GUARD}::test_only_the_answer_to_the_pending_observation_is_accepted'


def _ignore(function: str, fault: str) -> None:
    from q2rl_control import guard

    def change(original, *args, **kwargs):
        found = original(*args, **kwargs)
        return None if found == fault else found

    around(guard, function, change)


@without('reject actions that are not finite', BAD_ACTIONS)
def _() -> None:
    _ignore('action_fault', 'not_finite')


@without('reject actions of another size', BAD_ACTIONS)
def _() -> None:
    _ignore('action_fault', 'size')


@without('reject actions out of range', BAD_ACTIONS)
def _() -> None:
    _ignore('action_fault', 'out_of_range')


@without(
    'reject decisions under another contract',
    f'{NODES}::test_a_decision_under_another_contract_never_acts',
)
def _() -> None:
    from q2rl_ros import conversions

    conversions.check_contract = lambda contract, task: None


@without('reject decisions for another episode', ANSWERS)
def _() -> None:
    _ignore('answer_fault', 'episode')


@without('reject decisions for another step, repeated ones included', ANSWERS)
def _() -> None:
    _ignore('answer_fault', 'step')


@without('reject decisions that are too old', ANSWERS)
def _() -> None:
    _ignore('answer_fault', 'late')


@without(
    'brake where the measurement is not finite',
    f'{GUARD}::test_a_measurement_that_is_not_finite_brakes',
)
def _() -> None:
    from q2rl_control import guard

    guard.is_usable = lambda measured: True


@without(
    'use no measurement that no arm makes',
    f'{PROTECTIONS_OF_LOGIC}::test_numbers_that_no_arm_measures_are_not_used',
)
def _() -> None:
    from q2rl_control import arm_logic
    from q2rl_task import Measurement

    arm_logic.is_usable = Measurement.is_finite


@without(
    'notice a dead force sensor',
    f'{PROTECTIONS_OF_LOGIC}::test_a_dead_force_sensor_holds_and_ends_the_episode',
)
def _() -> None:
    from q2rl_control.sensor_watch import WrenchWatch

    WrenchWatch.is_frozen = lambda self, measurement: False


@without(
    'notice a gripper whose joints fell silent',
    f'{INPUTS}::test_a_hand_on_a_topic_of_its_own_that_falls_silent_takes_the_joints_with_it',
)
def _() -> None:
    from q2rl_control import gripper_joints

    gripper_joints.SILENT_S = 1e9


@without(
    'notice joints that repeat themselves',
    f'{INPUTS}::test_joints_that_repeat_themselves_with_fresh_stamps_are_no_state_of_the_arm',
)
def _() -> None:
    from q2rl_control.sensor_watch import RepeatWatch

    RepeatWatch.repeats = lambda self, values, stamp: False


@without(
    'say no success for a switch that fell silent',
    f'{SCENE}::test_the_switch_is_repeated_with_fresh_stamps_and_falls_silent_with_its_source',
)
def _() -> None:
    from q2rl_control.fixed_scene_node import HeldInput

    HeldInput.at = lambda self, now: self._on


@without(
    'hold without fresh readings of every stream',
    f'{NODES}::test_latest_sensors_need_every_stream_fresh_by_stamp_and_by_arrival',
)
def _() -> None:
    from q2rl_control.latest_sensors import LatestSensors

    LatestSensors._fresh = lambda self, topic, now, arrived_now: topic in self._latest


@without('end the episode when sensing is lost', f'{LOGIC}::test_lost_sensing_ends_the_episode')
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    ArmLogic.lose = lambda self, detail: None


@without(
    'start no episode while the success signal is on already',
    f'{LOGIC}::test_no_episode_starts_while_the_success_signal_is_on_already',
)
def _() -> None:
    from dataclasses import replace

    from q2rl_control.arm_logic import ArmLogic

    def change(original, self, measurement):
        return original(self, replace(measurement, success_signal=False))

    around(ArmLogic, '_approach', change)


# What goes out


@without(
    'clamp the lead',
    f'{GUARD}::test_a_blocked_arm_leads_to_the_clamp_and_to_no_other_intervention',
)
def _() -> None:
    from q2rl_control import guard
    from q2rl_task import action

    action.clamp_lead = lambda target, measured, lead_m, lead_rad: (target, False)
    guard.clamp_lead = action.clamp_lead


@without(
    'clamp the lead outside the workspace too',
    f'{OUTSIDE}::test_an_arm_that_is_pushed_out_of_the_workspace_is_followed_to_within_the_lead',
)
def _() -> None:
    from q2rl_control import guard

    guard.clamp_lead = lambda target, measured, lead_m, lead_rad: (target, False)


@without(
    'follow an arm out of the workspace for a bounded way only',
    f'{OUTSIDE}::test_a_tip_that_is_measured_ever_further_out_is_followed_for_a_bounded_way_only',
)
def _() -> None:
    from q2rl_control import guard

    guard.CARRIED_M = guard.CARRIED_RAD = 1.0


@without(
    'bring no arm back into the workspace unasked',
    f'{OUTSIDE}::test_outside_the_workspace_an_arm_that_nobody_moves_stays',
)
def _() -> None:
    from q2rl_control.motion_limits import Box, Cone

    def to_the_nominal_one(original, self, point, margin=0.0):
        stretched = vars(self).copy()
        if isinstance(self, Box):
            self._low, self._high = self._nominal
        else:
            self._angle = self._nominal_angle
        found = original(self, point, margin)
        vars(self).update(stretched)
        return found

    around(Box, 'project', to_the_nominal_one)
    around(Cone, 'project', to_the_nominal_one)


@without(
    'come back into the workspace slowly',
    f'{OUTSIDE}::test_from_outside_an_action_moves_inward_only_slowly_and_within_the_lead',
)
def _() -> None:
    from q2rl_control.motion_limits import Box, Cone

    Box.stretched = Cone.stretched = property(lambda self: False)


@without('keep to the box', f'{GUARD}::test_the_command_slides_along_the_boundary')
def _() -> None:
    from q2rl_control.motion_limits import Box

    Box.project = lambda self, point, margin=0.0: point
    Box.contains = lambda self, points: True


@without('keep to the cone', f'{GUARD}::test_the_orientation_stays_within_its_cone')
def _() -> None:
    from q2rl_control.motion_limits import Cone

    Cone.project = lambda self, point, margin=0.0: point
    Cone.contains = lambda self, points: True


@without(
    'move only where a stop is known',
    f'{RANDOM}::test_random_actions_keep_every_limit[accelerates slowly]',
)
def _() -> None:
    import numpy as np

    from q2rl_control.motion_limits import LimitedMotion

    LimitedMotion._with_stop = lambda self, velocity: np.stack([velocity, np.zeros(3)])


def _unlimited(attribute: str) -> None:
    from q2rl_control.motion_limits import LimitedMotion

    def change(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        setattr(self, attribute, 1e9)

    around(LimitedMotion, '__init__', change)


@without('limit velocity', f'{RANDOM}::test_random_actions_keep_every_limit[task]')
def _() -> None:
    from q2rl_control.motion_limits import LimitedMotion

    _unlimited('max_speed')
    around(LimitedMotion, 'plan', lambda original, self, wanted, speed: original(self, wanted, 1e9))


@without(
    'limit acceleration', f'{RANDOM}::test_random_actions_keep_every_limit[accelerates slowly]'
)
def _() -> None:
    _unlimited('_change')


@without('limit jerk', f'{RANDOM}::test_random_actions_keep_every_limit[jerks little]')
def _() -> None:
    _unlimited('_second')


@without(
    'change hands without a jump',
    f'{PROTECTIONS_OF_LOGIC}::test_a_change_of_hands_at_every_tick_is_no_jump',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    def change(original, self, decision):
        self.guard.reset(self.measurement.tip_pose)
        return original(self, decision)

    around(ArmLogic, 'execute', change)


@without(
    'seed the guard with the motion that the arm has',
    f'{PROTECTIONS_OF_LOGIC}::'
    'test_an_arm_that_moves_when_the_guard_is_seeded_is_braked_and_not_jerked',
)
def _() -> None:
    from q2rl_control.guard import Guard

    around(Guard, 'reset', lambda original, self, pose, twist=None: original(self, pose))


@without(
    'check the command itself', f'{GUARD}::test_the_final_check_catches_what_the_limits_let_through'
)
def _() -> None:
    from q2rl_control.motion_limits import LimitedMotion

    LimitedMotion.allows = lambda self, velocity: True


@without(
    'make one tick in one period of time',
    f'{PANEL}::test_a_catching_up_timer_makes_no_second_tick_in_one_period',
)
def _() -> None:
    from q2rl_control.tick_pace import TickPace

    TickPace.begin_tick = lambda self, steps: True


@without(
    'make no guarded step right behind another',
    f'{PANEL}::test_an_answer_right_behind_a_step_is_put_off_and_then_executed',
)
def _() -> None:
    from q2rl_control.tick_pace import TickPace

    TickPace.wait = lambda self: 0.0


@without(
    'make one guarded step in one tick',
    f'{PANEL}::test_a_missed_decision_and_silent_sensors_make_one_step_of_one_tick',
)
def _() -> None:
    from q2rl_control.tick_pace import TickPace

    TickPace.may_step = lambda self: True


# Force


@without('soften under force', f'{GUARD}::test_force_softens_the_pressing_part_and_only_that')
def _() -> None:
    from q2rl_control.guard import Guard

    Guard._soften = lambda self, target, measured: (target, False)


@without(
    'end the episode at the stopping force',
    f'{LOGIC}::test_the_force_limit_ends_the_episode_and_the_peak_is_kept',
)
def _() -> None:
    from q2rl_task import Measurement

    Measurement.force = property(lambda self: 0.0)


@without(
    'end the episode after a blow between ticks',
    f'{PROTECTIONS_OF_LOGIC}::test_a_blow_between_two_ticks_ends_the_episode',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    ArmLogic.note_force = lambda self, force: None


@without(
    'back off from contact on the way to the start pose',
    f'{LOGIC}::test_contact_on_the_way_to_the_start_pose_backs_off',
)
def _() -> None:
    from q2rl_task import Measurement

    Measurement.force = property(lambda self: 0.0)


@without(
    'refuse a stiffness that implies too much force',
    f'{SPEC}::test_stiffness_times_lead_may_not_exceed_the_stop_force',
)
def _() -> None:
    from q2rl_task import TaskSpec
    from q2rl_task.spec import Limits

    del Limits.__pydantic_decorators__.model_validators['_implied_force']
    for model in (Limits, TaskSpec):
        model.model_rebuild(force=True)


@without(
    'refuse limits with which the arm could not stop',
    f'{PROTECTIONS_OF_LOGIC}::test_limits_with_which_the_arm_could_not_stop_are_refused_in_one_line',
)
def _() -> None:
    from q2rl_control import stop_table

    stop_table._from_full_speed = lambda speed, change, second: 9


# Who may act

HANDS = f'{PROTECTIONS_OF_LOGIC}::test_a_person_goes_before_a_hold_and_a_hold_before_the_policies'


@without('let a person go first', HANDS)
def _() -> None:
    from q2rl_control.right_of_way import RightOfWay

    RightOfWay.human_acts = lambda self, now: False


@without('let a hold go before the policies', HANDS)
def _() -> None:
    from q2rl_control.right_of_way import RightOfWay

    around(
        RightOfWay,
        'settle',
        lambda original, self, decision, held, now: original(self, decision, False, now),
    )


@without(
    'hold when a person lets go',
    f'{PROTECTIONS_OF_LOGIC}::test_a_person_who_lets_go_leaves_a_hold_and_then_the_policies',
)
def _() -> None:
    from q2rl_control import arm_logic

    arm_logic.HAND_BACK_S = 0.0


@without(
    'hold at once when a person says that they let go',
    f'{PROTECTIONS_OF_LOGIC}::test_a_person_who_says_that_they_let_go_moves_nothing_any_more',
)
def _() -> None:
    from q2rl_control.right_of_way import RightOfWay

    RightOfWay.let_go = lambda self: None


@without(
    "execute a person's last action for two periods at most",
    f'{PROTECTIONS_OF_LOGIC}::test_a_persons_last_action_is_executed_for_two_periods_at_most',
)
def _() -> None:
    from q2rl_control import arm_logic

    arm_logic.PERSON_PERIODS = 4


@without(
    'hear a person after the clock went back',
    f'{PANEL}::test_a_person_is_heard_again_after_the_clock_went_back_and_after_an_activation',
)
def _() -> None:
    from q2rl_control.operator_panel import OperatorPanel

    OperatorPanel.forget = lambda self: None


@without(
    "check a person's action",
    f'{PROTECTIONS_OF_LOGIC}::'
    'test_a_persons_action_is_checked_like_any_other_and_a_bad_one_is_no_deadman',
)
def _() -> None:
    from q2rl_control import right_of_way

    right_of_way.action_fault = lambda action, size: None


@without(
    'keep RL in the shadow from acting',
    f'{GATE}::test_rl_is_not_let_out_of_the_shadow_where_it_is_worth_more',
)
def _() -> None:
    from q2rl_policies.gate import QGate

    def settle(original, self, mode, bc, rl, would_act, judgement):
        if self.chooser == 'shadow':
            return would_act, judgement
        return original(self, mode, bc, rl, would_act, judgement)

    around(QGate, '_settle', settle)


# Stopping


@without(
    'hold when no decision comes',
    f'{PANEL}::test_decisions_that_stay_away_and_sensors_that_go_silent_are_told',
)
def _() -> None:
    from q2rl_control.arm_interface_node import ArmInterface

    def change(original, self, decision):
        if decision is not None:
            original(self, decision)

    around(ArmInterface, '_execute', change)


@without(
    'stop a motion that takes too long',
    f'{LOGIC}::test_a_reset_that_takes_too_long_stops_with_a_reason_and_can_be_tried_again',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    ArmLogic._overdue = lambda self, measurement, motion: False


EVERY_STATE = (
    f'{PROTECTIONS_OF_LOGIC}::test_an_emergency_stop_holds_in_every_state_until_reset_and_released'
)
OUTLIVES = f'{LATCH}::test_a_stop_outlives_the_process_and_takes_two_acts_to_undo'


@without('latch an emergency stop', EVERY_STATE)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    SafetyLatch.stop = lambda self, reason: None


@without('remember an emergency stop across restarts', OUTLIVES)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    SafetyLatch._write = lambda self: None


@without(
    'brake before the disk has taken the stop',
    f'{LATCH}::test_a_stop_does_not_wait_for_the_disk_and_the_last_word_is_what_is_kept',
)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    def change(original, self):
        original(self)
        self.settle()

    around(SafetyLatch, '_write', change)


@without('hold after a reset until released', EVERY_STATE)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    def change(original, self):
        original(self)
        self.held = False

    around(SafetyLatch, 'reset', change)


@without('keep the hold while stopped', OUTLIVES)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    def release(self):
        self.held = False
        return True

    SafetyLatch.release = release


@without(
    'take a record that cannot be read for a stop',
    f'{LATCH}::test_a_record_that_cannot_be_read_counts_as_a_stop',
)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    def change(original, self, path):
        original(self, path)
        if 'cannot be read' in self.reason:
            self.stopped = self.held = False

    around(SafetyLatch, '_read', change)


@without(
    'refuse a folder in which a stop could not be remembered',
    f'{LATCH}::test_a_folder_that_cannot_be_made_is_refused_before_it_is_needed',
)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    SafetyLatch._check_folder = lambda self, folder: None


@without(
    'refuse a reset while the cause lasts',
    f'{PROTECTIONS_OF_LOGIC}::test_a_stop_is_not_reset_while_its_cause_lasts',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    def reset(self):
        self.latch.reset()
        return ''

    ArmLogic.reset_emergency_stop = reset


@without(
    'refuse a reset while the button is down',
    f'{PANEL}::test_the_button_stops_an_inactive_node_and_must_be_let_go_before_a_reset',
)
def _() -> None:
    from q2rl_control.operator_panel import OperatorPanel

    OperatorPanel._pressed = property(lambda self: False, lambda self, value: None)


@without(
    'bring the command back to the arm in an emergency stop',
    f'{PROTECTIONS_OF_LOGIC}::'
    'test_an_emergency_stop_brings_the_command_back_to_an_arm_that_trails_it',
)
def _() -> None:
    from q2rl_control.arm_command import ArmCommand

    ArmCommand.come_back = lambda self, measured: self.guard.command(
        None, measured, measured.tip_pose
    )


@without(
    'hold at the start until a person arms the arm',
    f'{ARMING}::test_a_real_arm_waits_at_each_start_until_a_person_lets_go_of_the_hold',
)
def _() -> None:
    from q2rl_control.safety_latch import SafetyLatch

    SafetyLatch.hold = lambda self, reason, remember=True: None


@without(
    'begin no episode before whoever resets the scene resumes the run',
    f'{CONTROL}/test_control_run_plan.py::'
    'test_a_pause_for_the_scene_comes_right_before_the_episode_however_long_a_fit_takes',
)
def _() -> None:
    from q2rl_control.run_plan import RunPlan

    RunPlan.scene_used = lambda self: None


@without(
    'hold an arm that is activated again until a person arms it',
    f'{ARMING}::test_a_real_arm_waits_at_each_start_until_a_person_lets_go_of_the_hold',
)
def _() -> None:
    from q2rl_control import arm_interface_node

    arm_interface_node.hold_until_armed = lambda node, latch: None


@without(
    'take no result of an episode that ran out of time in a hold',
    f'{LOGIC}::test_an_episode_whose_time_ran_out_over_a_hold_is_no_result_of_the_policies',
)
def _() -> None:
    from q2rl_control.episode_steps import EpisodeSteps

    EpisodeSteps.note_hold = lambda self: None


@without(
    'go on with no reset from whose way others have moved the arm',
    f'{FOLLOW}::test_a_retreat_begins_anew_where_others_have_carried_the_arm_meanwhile',
)
def _() -> None:
    from q2rl_control.reset_course import ResetCourse

    ResetCourse.is_left = lambda self, commanded: False


@without(
    'let no gripper goal run that was given up unanswered',
    f'{GRIPPER}::test_a_goal_that_is_taken_late_does_not_run_against_the_one_wanted_since',
)
def _() -> None:
    from q2rl_control.gripper_action import GripperAction

    take = GripperAction._on_taken

    def take_own(self, goal, handle) -> None:
        if goal is self._goal:
            take(self, goal, handle)

    GripperAction._on_taken = take_own


@without(
    'brake before nobody commands the arm any more',
    f'{ARMING}::test_an_arm_that_is_deactivated_in_motion_brakes_before_it_falls_silent',
)
def _() -> None:
    from q2rl_control import last_stop

    last_stop.come_to_rest = lambda *args: True


@without(
    'tell a gripper nothing before something was decided',
    f'{ARMING}::test_a_gripper_is_told_nothing_before_something_was_decided_and_nothing_in_a_stop',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    def change(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.gripper = 1.0

    around(ArmLogic, '__init__', change)


@without(
    'tell a gripper nothing in a hold',
    f'{GRIPPER}::test_a_gripper_is_told_nothing_in_a_hold_or_a_stop_and_not_to_try_again',
)
def _() -> None:
    from q2rl_control.gripper_command import GripperCommand

    def change(original, self):
        latch = self._logic.latch
        held, latch.held = latch.held, latch.stopped
        original(self)
        latch.held = held

    around(GripperCommand, 'send', change)


@without(
    'command no arm whose gripper cannot be told anything',
    f'{GRIPPER}::test_a_gripper_without_its_server_blocks_the_arm_and_is_told_anew_when_it_is_back',
)
def _() -> None:
    from q2rl_control.gripper_command import GripperCommand

    GripperCommand.blocked = lambda self: ''


# Below the guard: what a command sink adds


@without(
    'keep joints within their limits',
    f'{TRACKING}::test_position_limits_of_the_joints_hold_however_far_the_target_goes',
)
def _() -> None:
    import numpy as np

    from q2rl_control import joint_tracking

    def change(original, self, kinematics, *limits):
        original(self, kinematics, *limits)
        free = np.full_like(kinematics.upper, np.inf)
        self._kinematics = _with(kinematics, lower=-free, upper=free)

    around(joint_tracking.JointTracking, '__init__', change)


def _with(of: object, **changes):
    """Return a copy of an object with other attributes."""
    import copy

    changed = copy.copy(of)
    vars(changed).update(changes)
    return changed


@without(
    'keep joints within their velocity limits',
    f'{TRACKING}::test_velocity_limits_of_the_joints_hold_for_any_target',
)
def _() -> None:
    from q2rl_control.joint_tracking import JointTracking

    def change(original, self, *arguments):
        original(self, *arguments)
        self._reach = 1e9 * self._reach

    around(JointTracking, '__init__', change)


@without(
    'keep joints within an acceleration',
    f'{TRACKING}::test_the_joints_come_to_rest_at_the_target_and_not_beyond_it',
)
def _() -> None:
    from q2rl_control.joint_tracking import JointTracking

    def change(original, self, *arguments):
        original(self, *arguments)
        self._gain = 1e9 * self._gain

    around(JointTracking, '__init__', change)


@without(
    'hold joints before a singularity',
    f'{TRACKING}::test_the_way_into_a_singularity_is_held_and_the_way_out_is_free',
)
def _() -> None:
    from q2rl_control.joint_tracking import JointTracking

    JointTracking._share_before_singularity = lambda self, change: 1.0


@without(
    'start joint commands at the measured joints',
    f'{TRACKING}::test_the_first_command_starts_at_the_measured_joints_and_is_no_jump',
)
def _() -> None:
    from q2rl_control.joint_tracking import JointTracking

    def change(original, self, target, measured):
        if self._commanded is None:
            measured = self._kinematics.solve(target, measured)
        return original(self, target, measured)

    around(JointTracking, 'follow', change)


@without(
    'bring joint commands back to an arm that is left behind',
    f'{TRACKING}::test_an_arm_that_is_left_behind_is_not_waited_for',
)
def _() -> None:
    from q2rl_control.joint_tracking import JointTracking

    JointTracking._look_after = lambda self, measured: None


@without(
    'command joints and poses without steps between ticks',
    f'{BETWEEN}::test_between_two_commands_there_is_no_step_and_no_kink',
)
def _() -> None:
    from q2rl_control.interpolation import Interpolation

    def change(original, self, positions, now, start):
        original(self, positions, now, start)
        self._start, self._middle = positions, 0.0 * positions

    around(Interpolation, 'command', change)


@without(
    'hold an arm that does not follow, and take no result of its episode',
    f'{FOLLOW}::test_an_arm_that_stops_behind_our_back_is_held_and_its_episode_has_no_result',
)
def _() -> None:
    from q2rl_control.follow_watch import FollowWatch

    FollowWatch.note = lambda self, commanded, measured: ''


@without(
    'take no arm that presses for one that does not follow',
    f'{FOLLOW}::test_an_arm_that_presses_stands_still_for_a_reason',
)
def _() -> None:
    from q2rl_control import follow_watch

    follow_watch.FREE = 1e9


@without(
    'end an episode whose arm cannot be commanded',
    f'{FOLLOW}::test_an_arm_that_cannot_be_commanded_holds_and_its_episode_ends_after_a_while',
)
def _() -> None:
    from q2rl_control.follow_watch import Follower

    around(
        Follower,
        '__init__',
        lambda original, self, logic, blocked, hold, patience_s, *rest: original(
            self, logic, blocked, hold, 1e9, *rest
        ),
    )


@without(
    'resume no motion that something else interrupted',
    f'{FOLLOW}::test_a_retreat_that_was_blocked_waits_for_a_person',
)
def _() -> None:
    from q2rl_control.follow_watch import Follower

    around(Follower, '__init__', lambda original, *given: original(*given[:5]))


@without(
    'go after an arm that others carry off while it cannot be commanded',
    f'{FOLLOW}::test_an_arm_that_others_carry_off_meanwhile_is_not_pulled_back',
)
def _() -> None:
    from q2rl_control.halt import Halt

    Halt._is_carried_off = lambda self, measured: False


def _unready(word: str) -> None:
    """Ignore a reason that has a word in it."""
    from q2rl_control.arm_readiness import ArmReadiness

    def change(original, self):
        reason = original(self)
        return '' if word in reason else reason

    around(ArmReadiness, 'blocked', change)


@without(
    'command no arm that somebody else commands too',
    f'{READY}::test_who_is_not_alone_on_the_command_topic_is_blocked_until_the_other_is_forgotten',
)
def _() -> None:
    _unready('publishers')


@without(
    'command no robot that says it is not ready',
    f'{READY}::test_a_robot_that_says_when_it_is_ready_is_not_commanded_before_and_not_after',
)
def _() -> None:
    _unready('not ready')


@without(
    'command no controller that is not active',
    f'{READY}::test_a_controller_that_is_not_active_is_not_commanded',
)
def _() -> None:
    _unready('the controller')


@without(
    'hold when MoveIt Servo has stopped the arm',
    f'{SERVO}::test_a_halt_of_servo_is_handed_on_with_what_it_said',
)
def _() -> None:
    from q2rl_control import servo_sink

    around(
        servo_sink.ServoTwistSink,
        '__init__',
        lambda original, self, node, servo, gain, halted: original(
            self, node, servo, gain, lambda reason: None
        ),
    )


@without(
    'let a hold go while MoveIt Servo still says that it halts',
    f'{SERVO}::test_a_halt_that_lasts_is_handed_on_once_and_a_new_one_again',
)
def _() -> None:
    from q2rl_control.servo_sink import ServoTwistSink

    def change(original, self, msg):
        self._halt = ''
        return original(self, msg)

    around(ServoTwistSink, '_on_status', change)


@without(
    'bring the command back to an arm that was stopped from below',
    f'{COMMAND}::test_a_halt_below_holds_until_released_and_brings_the_command_back_to_the_arm',
)
def _() -> None:
    from q2rl_control.arm_command import ArmCommand

    ArmCommand.drawn_back = property(lambda self: False)


@without(
    'hold while the controller below cannot follow',
    f'{COMMAND}::test_a_person_may_move_an_arm_that_was_halted_and_nobody_one_that_does_not_follow',
)
def _() -> None:
    from q2rl_control.arm_command import ArmCommand

    ArmCommand.block = lambda self, reason: None


@without(
    'send no command to a Servo that has not agreed to it',
    f'{SERVO}::test_servo_is_asked_for_twists_and_until_it_agrees_the_arm_is_blocked',
)
def _() -> None:
    from q2rl_control.servo_sink import ServoTwistSink

    ServoTwistSink.blocked = lambda self: ''


# A person's device

DEAD_MAN = f'{TELEOP}::test_nobody_acts_without_the_dead_mans_button'


@without("act only with the dead man's button down", DEAD_MAN)
def _() -> None:
    from q2rl_control.teleop_mapping import Teleop

    Teleop._acts = lambda self, now: True


@without(
    "take no dead man's button that was never up",
    f'{TELEOP}::test_a_button_that_was_never_seen_up_is_stuck_and_counts_for_nothing',
)
def _() -> None:
    from q2rl_control.teleop_mapping import Teleop

    Teleop._armed = property(lambda self: True, lambda self, value: None)


@without(
    'let go for a device that fell silent',
    f'{TELEOP}::test_a_device_that_falls_silent_lets_go',
)
def _() -> None:
    from q2rl_control.teleop_mapping import Teleop

    Teleop._silent_after = property(lambda self: float('inf'), lambda self, value: None)


@without(
    'act in a browser only while the gizmo is held',
    f'{STEERING}::test_let_go_or_gone_stops_at_once',
)
def _() -> None:
    from q2rl_bringup.steering import Steering

    Steering.let_go = lambda self, client: None


@without(
    'let go for a gizmo that does not move',
    f'{STEERING}::test_a_gizmo_that_does_not_move_falls_silent_and_one_that_moves_again_acts',
)
def _() -> None:
    from q2rl_bringup.steering import Steering

    Steering._silent_after = property(lambda self: float('inf'), lambda self, value: None)


@without(
    'take the gizmo out of the hand with the end of an episode',
    f'{STEERING}::test_an_episode_that_is_over_takes_the_gizmo_out_of_the_hand',
)
def _() -> None:
    from q2rl_bringup.steering import Steering

    def hear_arm(self, state, detail, episode):
        self._steerable, self._episode = True, episode

    Steering.hear_arm = hear_arm


@without(
    'steer nothing in a browser that is not simulated',
    f'{STEERING}::test_nothing_is_offered_where_no_simulation_tells_the_truth',
)
def _() -> None:
    from q2rl_bringup import steering

    steering.SIMULATION_SILENT_S = float('inf')


@without(
    'start no arm that is not simulated to be steered in a browser',
    f'{GRAPH}::test_nobody_steers_an_arm_in_the_browser_that_is_not_simulated_here',
)
def _() -> None:
    from q2rl_bringup import argument_conflicts

    around(
        argument_conflicts,
        'conflicts',
        lambda original, args: [c for c in original(args) if c[1] != 'teleop'],
    )


@without(
    'end no episode by a label that is about another',
    f'{LABELS}::test_a_label_is_about_one_running_episode_and_the_first_one_stands',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    around(
        ArmLogic, 'label', lambda original, self, success, episode='': original(self, success, '')
    )


# The wrench on its way in


@without(
    'use no wrench of a frame that nobody knows',
    f'{FRAMES}::test_the_error_is_one_line_that_names_the_frame_and_what_to_do',
)
def _() -> None:
    from q2rl_control.wrench_frames import WrenchFrames
    from q2rl_task import Pose

    WrenchFrames._place = lambda self, frame, tip_pose: Pose.of((0.0, 0.0, 0.0))


@without(
    'keep a dead force sensor recognisable at the tip',
    f'{INPUTS}::test_a_sensor_that_repeats_itself_does_so_at_the_tip_too_while_the_arm_moves',
)
def _() -> None:
    from q2rl_control.sensor_inputs import SensorInputs

    def anew(original, self, msg) -> None:
        self._wrench = None
        original(self, msg)

    around(SensorInputs, '_on_wrench', anew)


@without(
    'take no zero from a tool that does not hang free',
    f'{TARE}::test_readings_of_no_free_tool_are_no_zero',
)
def _() -> None:
    from q2rl_control import wrench_tare

    wrench_tare.TREMBLE_N = float('inf')


@without(
    'start no episode without a zero of the wrench',
    f'{TARE}::test_no_episode_starts_from_a_zero_that_is_none',
)
def _() -> None:
    from q2rl_control.arm_logic import ArmLogic

    ArmLogic._tared = lambda self: True


# The way to a start pose


@without(
    'find no way through what is in the way',
    f'{PLANS}::test_a_straight_line_there_would_collide',
)
def _() -> None:
    from q2rl_control.arm_scene import ArmScene

    ArmScene.fault = lambda self, joints, extra_m=0.0: ''


@without(
    'plan no way out of the workspace',
    f'{PLANS}::test_a_goal_that_is_not_allowed_is_refused_in_one_line',
)
def _() -> None:
    from q2rl_control import planning

    planning.check_goal = planning.check_waypoints = lambda *args: None


@without(
    'plan with no description of another arm or tool',
    f'{PLANS}::test_a_start_that_cannot_be_is_refused',
)
def _() -> None:
    from q2rl_control import arm_scene

    arm_scene.SAME_M = float('inf')
