# SPDX-License-Identifier: Apache-2.0
"""`Q2rlNode`: the lifecycle, parameters, counters and diagnostics that all q2rl nodes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import errno
import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from q2rl_ros.errors import MessageError
from q2rl_ros.qos import Profiles, profiles
from q2rl_task import InputError, TaskSpec, load_task

LOG_EVERY_S = 5.0
DIAGNOSTICS_PERIOD_S = 1.0
WARN_FOR_S = 5.0
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Q2rlNode(LifecycleNode):
    """A lifecycle node of one robot and one task.

    A subclass declares its parameters in `__init__` and overrides the hooks `configure` (load, validate, warm up, make
    publishers and subscriptions), `activate` (start), `deactivate` (hold), `release` (forget what `configure` made) and
    `diagnose`. Hooks raise `InputError` for what a user can mend: one line is logged and the transition fails. Handlers
    of messages, services and timers raise it too: one line is logged and the process ends, with exit code 2. So it does
    when a disk is full.

    Set before `configure` is called: `task`, `lockstep`, `robot`, `qos`.
    """

    task: TaskSpec
    lockstep: bool
    robot: str
    qos: Profiles

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        self.active = False
        self.finished = False
        self.exit_code = 0
        self.counters: Counter[str] = Counter()
        self._problems: dict[str, float] = {}
        self._logged: dict[str, float] = {}
        self._choices: dict[str, Sequence[str]] = {}
        self._made: list[tuple[Callable, object]] = []
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.declare(
            'task', 'pipe_assembly', 'Task: name of a shipped one, or path of a task YAML.'
        )
        self.declare(
            'lockstep',
            False,
            'Whether a simulation waits for each decision; false: a wall-clock tick.',
        )
        self.declare('robot', 'arm', 'Name of the robot, unique among those that share a learner.')
        self.declare('autostart', True, 'Configure and activate without being asked.')
        self.declare(
            'run_dir', '', 'Directory of the run; empty: nothing is read from or written to one.'
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._wall)

    # What a subclass overrides

    def configure(self) -> None:
        """Load, validate and warm up; make publishers and subscriptions."""

    def activate(self) -> None:
        """Start."""

    def deactivate(self) -> None:
        """Hold."""

    def release(self) -> None:
        """Forget what `configure` made; publishers, subscriptions, services and timers are gone already."""

    def diagnose(self) -> dict[str, object]:
        """Return what diagnostics show beside the counters."""
        return {}

    def fault(self) -> str:
        """Return what makes diagnostics show an error until a person has seen to it, or an empty string."""
        return ''

    # What a subclass uses

    def declare(
        self,
        name: str,
        default,
        description: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[str] = (),
    ) -> None:
        """Declare a parameter with its description; read it with `value` when configuring.

        :param low: smallest value of a number, with `high`
        :param choices: allowed values of a string, checked when configuring
        """
        descriptor = ParameterDescriptor(name=name, description=description)
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(low), to_value=float(high))
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(low), to_value=int(high), step=1)
                ]
        if choices:
            descriptor.additional_constraints = f'one of {", ".join(choices)}'
            self._choices[name] = choices
        self.declare_parameter(name, default, descriptor)

    def declare_lockstep_timeout(self) -> None:
        """Declare `lockstep_timeout`, for the node that waits for decisions and the one that makes them."""
        self.declare(
            'lockstep_timeout',
            5.0,
            'Lockstep: wall time [s] without a decision after which a step holds; '
            'the same for arm_interface and q_gate.',
            low=0.1,
            high=600.0,
        )

    def value(self, name: str):
        """Return the value of a declared parameter."""
        return self.get_parameter(name).value

    def publisher(self, kind: type, topic: str, qos: QoSProfile):
        """Make a publisher that lives until the node is cleaned up."""
        return self._keep(self.destroy_publisher, self.create_publisher(kind, topic, qos))

    def subscribe(
        self,
        kind: type,
        topic: str,
        handler: Callable,
        qos: QoSProfile,
        *,
        while_inactive: bool = False,
        raw: bool = False,
    ) -> None:
        """Call `handler` with each message while active; a `MessageError` it raises drops and counts the message.

        :param while_inactive: take messages while inactive too (latched ones come only once)
        :param raw: hand on the bytes as they came, for `rclpy.serialization.deserialize_message`
        """

        def receive(msg) -> None:
            if not (self.active or while_inactive):
                self.counters['inactive'] += 1
                return
            try:
                with self._mendable():
                    handler(msg)
            except MessageError as error:
                self.drop(error.kind, f'{topic}: {error}')

        self._keep(
            self.destroy_subscription,
            self.create_subscription(kind, topic, receive, qos, raw=raw),
        )

    def serve(self, kind: type, name: str, handler: Callable) -> None:
        """Serve a service until the node is cleaned up; `handler(request, response)` also runs while inactive."""

        def answer(request, response):
            with self._mendable():
                return handler(request, response)
            return response

        self._keep(self.destroy_service, self.create_service(kind, name, answer))

    def client(self, kind: type, name: str):
        """Make a service client that lives until the node is cleaned up."""
        return self._keep(self.destroy_client, self.create_client(kind, name))

    def wall_timer(self, period_s: float, handler: Callable[[], None]):
        """Call `handler` every `period_s` of wall time, whatever the simulation does, while active."""
        return self._timer(period_s, handler, self._wall)

    def control_timer(self, period_s: float, handler: Callable[[], None]):
        """Call `handler` every `period_s` of `control_time`, while active."""
        return self._timer(period_s, handler, self._control_clock)

    def control_time(self) -> float:
        """Return seconds of the time in which a robot moves that does not wait: the wall's, or its simulation's."""
        return self._control_clock.now().nanoseconds / 1e9

    def stamp_now(self) -> float:
        """Return seconds on the clock of the node's stamps: the wall's, or with `use_sim_time` the simulation's."""
        return self.get_clock().now().nanoseconds / 1e9

    def when_released(self, handler: Callable[[], None]) -> None:
        """Call `handler` when the node is cleaned up, for what `configure` made that is not of ROS."""
        self._keep(lambda _: handler(), None)

    def count(self, name: str, amount: int = 1) -> None:
        """Count a normal event."""
        self.counters[name] += amount

    def drop(self, name: str, problem: str = '') -> None:
        """Count something gone wrong, log it (throttled) and let diagnostics warn for a while."""
        self.counters[name] += 1
        self._problems[name] = time.monotonic()
        if problem:
            self.warn(name, f'{problem} ({name}: {self.counters[name]})')

    def warn(self, key: str, text: str) -> None:
        """Log a warning, at most one per key and `LOG_EVERY_S`."""
        now = time.monotonic()
        if now - self._logged.get(key, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[key] = now
            self.get_logger().warning(text)

    def finish(self, exit_code: int = 0) -> None:
        """End the process from within; `spin` returns this exit code."""
        self.finished, self.exit_code = True, exit_code

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        """End the process where the user can mend what is wrong and a restart cannot."""
        try:
            yield
        except InputError as error:
            problem = str(error)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            problem = str(error)
        else:
            return
        if not self.finished:
            self.get_logger().error(problem)
        self.finish(2)

    # Lifecycle

    def start(self) -> int:
        """Configure and activate if `autostart` says so; return the exit code for the process, 0 to go on."""
        if not self.value('autostart'):
            return 0
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                return self.exit_code
        return 0

    def close(self) -> None:
        """Deactivate and clean up from whatever state the node is in."""
        if self.active:
            self.trigger_deactivate()
        if self._state_machine.current_state[1] == 'inactive':
            self.trigger_cleanup()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the common parameters, then `configure`."""
        return self._transition('configure', self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call `activate`; messages are handled from then on."""
        return self._transition('activate', self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop handling messages, then `deactivate`; if that fails, the node is active still."""
        self.active = False
        result = self._transition('deactivate', self.deactivate)
        self.active = result == TransitionCallbackReturn.FAILURE
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy what `configure` made, then `release`."""
        return self._transition('clean up', self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold, then clean up."""
        if self.active:
            self.on_deactivate(state)
            self.active = False
        return self._transition('shut down', self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, from where the node can be configured anew."""
        self.active = False
        return self._transition('recover', self._release)

    def _configure(self) -> None:
        for name, choices in self._choices.items():
            if self.value(name) not in choices:
                raise InputError(
                    f'parameter `{name}` of {self.get_name()}',
                    f'unknown value {self.value(name)!r}',
                    f'set one of {", ".join(choices)}',
                )
        self.task = load_task(self.value('task'))
        self.lockstep = self.value('lockstep')
        self.robot = self.value('robot')
        self.qos = profiles(self.lockstep, self.task.period_s)
        self.configure()

    def _activate(self) -> None:
        self.active = True
        try:
            self.activate()
        except BaseException:
            self.active = False
            raise

    def _release(self) -> None:
        while self._made:
            destroy, entity = self._made.pop()
            destroy(entity)
        self.release()

    def _transition(self, name: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            action()
        except InputError as error:
            self.get_logger().error(str(error))
            self.exit_code = 2
            if name == 'configure':
                self._release()
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(f'cannot {name}: {traceback.format_exc()}')
            self.exit_code = 1
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    @property
    def _control_clock(self) -> Clock:
        # A simulation that keeps its own time (Gazebo) may be slower than the wall clock.
        own_time = self.value('use_sim_time') and not self.lockstep
        return self.get_clock() if own_time else self._wall

    def _timer(self, period_s: float, handler: Callable[[], None], clock: Clock):
        def tick() -> None:
            if self.active:
                with self._mendable():
                    handler()

        return self._keep(self.destroy_timer, self.create_timer(period_s, tick, clock=clock))

    def _keep(self, destroy: Callable, entity):
        self._made.append((destroy, entity))
        return entity

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        recent = sorted(name for name, when in self._problems.items() if now - when < WARN_FOR_S)
        label = self._state_machine.current_state[1]
        fault = self.fault() if label in ('inactive', 'active') else ''
        level = DiagnosticStatus.WARN if recent or not self.active else DiagnosticStatus.OK
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if fault else level,
            name=f'{self.get_fully_qualified_name()}: q2rl',
            message='; '.join(filter(None, (label, fault, ', '.join(recent)))),
            hardware_id=self.value('robot'),
        )
        shown = (
            {**self.diagnose(), **self.counters}
            if label in ('inactive', 'active')
            else self.counters
        )
        status.values = [KeyValue(key=key, value=str(value)) for key, value in shown.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
