# SPDX-License-Identifier: Apache-2.0
"""The latest reading of each sensor stream, for a real-time tick that waits for none of them."""

from __future__ import annotations

from q2rl_ros.sensors import SENSOR_TOPICS, MeasurementJoiner
from q2rl_ros.stamps import FUTURE_S, stamp_from_msg, stamp_to_msg
from q2rl_task import Measurement, TaskSpec


class LatestSensors:
    """Keep the newest message of each of `SENSOR_TOPICS` and make measurements of them.

    A stream is stale when its last message is too old, by its stamp or by its arrival: a driver that repeats
    an old reading and one that fell silent are both caught.

    :param max_age_s: of streams for which the task's `sensor_max_age_s` has no number of their own
    """

    def __init__(self, task: TaskSpec, max_age_s: float) -> None:
        self._task = task
        ages = task.limits.sensor_max_age_s
        each = (ages.joint_states, ages.pose, ages.twist, ages.wrench, ages.success)
        self._max_age = {
            topic: max_age_s if age is None else age
            for topic, age in zip(SENSOR_TOPICS, each, strict=True)
        }
        self._latest: dict[str, tuple[float, float, object]] = {}

    def add(self, topic: str, msg, arrived: float) -> None:
        """Take a message; one with an older stamp than the last of its stream is left out.

        :param arrived: monotonic seconds
        :raises MessageError: impossible stamp
        """
        stamp = stamp_from_msg(msg.header.stamp)
        before = self._latest.get(topic)
        # Far back is not a late message but a clock that was set back.
        if before is None or stamp > before[0] or stamp < before[0] - 1.0:
            self._latest[topic] = (stamp, arrived, msg)

    def stale(self, now: float, arrived_now: float) -> tuple[str, ...]:
        """Return the streams without a fresh reading; `now` on the stamps' clock, `arrived_now` monotonic."""
        return tuple(topic for topic in SENSOR_TOPICS if not self._fresh(topic, now, arrived_now))

    def measurement(self, now: float) -> Measurement:
        """Return the latest readings as one measurement stamped `now`.

        :raises KeyError: a stream has not been heard yet
        :raises MessageError: wrong frame, or unequal joint arrays
        """
        joiner, stamp = MeasurementJoiner(self._task), stamp_to_msg(now)
        measurement = None
        for topic in SENSOR_TOPICS:
            msg = self._latest[topic][2]
            msg.header.stamp = stamp
            measurement = joiner.add(topic, msg)
        return measurement

    def _fresh(self, topic: str, now: float, arrived_now: float) -> bool:
        latest, limit = self._latest.get(topic), self._max_age[topic]
        return (
            latest is not None
            and -FUTURE_S <= now - latest[0] <= limit
            and arrived_now - latest[1] <= limit
        )
