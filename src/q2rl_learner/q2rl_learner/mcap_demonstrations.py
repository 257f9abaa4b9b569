# SPDX-License-Identifier: Apache-2.0
"""Episodes as a bag of the replay topic: `q2rl_msgs/msg/Transition` in MCAP, as `ros2 bag record -s mcap` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

from q2rl_learner.demonstration_files import Read, check_demonstration
from q2rl_learner.episodes import Episode, group_episodes
from q2rl_msgs.msg import Transition as TransitionMsg
from q2rl_ros.conversions import transition_from_msg, transition_to_msg
from q2rl_ros.errors import MessageError
from q2rl_task import (
    EndReason,
    InputError,
    Mode,
    Phase,
    Reason,
    Source,
    TaskSpec,
    Transition,
)
from q2rl_task.atomic_file import replacing
from q2rl_task.errors import one_line
from q2rl_task.records import NAN, no_vector

TYPE = 'q2rl_msgs/msg/Transition'
TOPIC = '/transition'
ROBOT = 'demonstrator'
NANOSECONDS = 1_000_000_000


def write_mcap(path: Path, task: TaskSpec, episodes: Sequence[Episode]) -> None:
    """Write episodes as transitions that a human made, whole or not at all.

    :raises InputError: mcap is not installed
    """
    writer_of = _mcap(path)[0]
    with replacing(path, durable=True) as partial, partial.open('wb') as file:
        writer = writer_of(file)
        writer.start(profile='ros2', library='q2rl')
        schema = writer.register_schema(TYPE, 'ros2msg', definition(TYPE).encode())
        channel = writer.register_channel(TOPIC, 'cdr', schema, {'offered_qos_profiles': ''})
        for transition in transitions_of(task, episodes):
            time_ns = round(transition.stamp * NANOSECONDS)
            data = serialize_message(transition_to_msg(transition, task.frames.fixture))
            writer.add_message(channel, time_ns, data, time_ns)
        writer.finish()


def read_mcap(path: Path, task: TaskSpec, as_is: bool) -> Read:
    """Read the whole episodes of a bag: of a file, or of all files in a folder. `as_is` does not matter here.

    Bags of several runs may lie in one folder: each run numbers its transitions from 1, its episodes are its own.

    :raises InputError: mcap is not installed; truncated or foreign; no transition of the task in it; two different
        episodes of one name
    """
    files = sorted(path.glob('*.mcap')) if path.is_dir() else [path]
    found: dict[tuple[str, int, str, int], Transition] = {}
    for file in files:
        for transition in _transitions(file, task):
            key = transition.robot, transition.sequence, transition.episode, transition.step
            known = found.setdefault(key, transition)
            # A resent one is the same.
            if not np.array_equal(known.observation, transition.observation):
                problem = f'has another episode {transition.episode} than a file before it'
                raise InputError(file, problem, 'convert the files one by one')
    episodes, partial = [], 0
    ordered = [found[key] for key in sorted(found)]
    for group in _by_episode(ordered):
        if group[0].step == 0 and (group[-1].terminated or group[-1].truncated):
            episodes += group_episodes(group)
        else:
            partial += 1
    for episode in episodes:
        check_demonstration(episode, path)
    if not episodes:
        problem = f'holds no whole episode of topic {TOPIC} ({TYPE})'
        raise InputError(path, problem, 'record the topic from the start of an episode to its end')
    notes = [f'{partial} episodes that were not recorded whole are left out'] if partial else []
    if held := int(sum(episode.held.sum() for episode in episodes)):
        notes.append(f'{held} steps were held: their action is zero, and nobody chose it')
    return Read(episodes, tuple(notes))


def transitions_of(task: TaskSpec, episodes: Sequence[Episode]) -> Iterator[Transition]:
    """Return episodes as the transitions that the replay topic would have carried."""
    sequence = 0
    for number, episode in enumerate(episodes):
        for step in range(len(episode)):
            sequence += 1
            last = step == len(episode) - 1
            end = EndReason.SUCCESS if episode.terminated else EndReason.TIME_LIMIT
            yield Transition(
                stamp=sequence * task.period_s,
                robot=ROBOT,
                sequence=sequence,
                contract=task.contract_hash,
                episode=f'demonstration-{number:04d}',
                step=step,
                phase=Phase.STARTING,
                mode=Mode.BC,
                source=Source.HUMAN,
                reason=Reason.MODE,
                observation=episode.observations[step],
                action=episode.actions[step],
                executed_action=episode.actions[step],
                interventions=(),
                reward=float(episode.rewards[step]),
                next_observation=episode.next_observations[step],
                terminated=last and episode.terminated,
                truncated=last and not episode.terminated,
                end_reason=end if last else EndReason.NONE,
                force=NAN,
                bc_action=no_vector(),
                bc_log_prob=NAN,
                bc_entropy=NAN,
                next_bc_action=no_vector(),
                next_bc_log_prob=NAN,
                next_bc_entropy=NAN,
                q_bc=NAN,
                q_rl=NAN,
                v_bc=NAN,
                q_spread=NAN,
                actor_version=0,
                critic_version=0,
                value_version=0,
            )


def definition(kind: str) -> str:
    """Return a message's definition with all it refers to, as bags carry it."""
    texts: dict[str, str] = {}

    def add(name: str) -> None:
        package, message = name.split('/')
        text = (Path(get_package_share_directory(package)) / 'msg' / f'{message}.msg').read_text()
        texts[name] = text.strip()
        for line in text.splitlines():
            field = line.partition('#')[0].split()
            other = field[0].partition('[')[0] if field else ''
            if '/' in other and other not in texts:
                add(other)

    package, _, message = kind.split('/')
    add(f'{package}/{message}')
    first, *others = texts
    parts = [texts[first], *(f'MSG: {name}\n{texts[name]}' for name in others)]
    return f'\n{"=" * 80}\n'.join(parts) + '\n'


def _transitions(path: Path, task: TaskSpec) -> Iterator[Transition]:
    _, reader_of = _mcap(path)
    try:
        with path.open('rb') as file:
            for schema, _, message in reader_of(file, validate_crcs=True).iter_messages():
                if schema is not None and schema.name == TYPE:
                    yield transition_from_msg(
                        deserialize_message(message.data, TransitionMsg), task
                    )
    except OSError as error:
        problem = f'cannot be read ({error.strerror})'
        raise InputError(path, problem, 'name an MCAP file') from None
    except MessageError as error:
        problem = f'holds a transition that is not of task {task.name} ({one_line(error, 200)})'
        raise InputError(path, problem, 'name the task it was recorded with') from None
    except Exception as error:  # a cut-off file fails wherever its reader happens to be
        problem = f'is not a readable MCAP file, truncated perhaps ({one_line(error, 200)})'
        raise InputError(path, problem, 'try `mcap recover`, or copy it again') from None


def _by_episode(transitions: Sequence[Transition]) -> list[list[Transition]]:
    """Split transitions into episodes without a gap; what comes after a gap stands alone."""
    groups: list[list[Transition]] = []
    newest: dict[tuple[str, str], list[Transition]] = {}
    for transition in transitions:
        group = newest.get((transition.robot, transition.episode))
        if group is None or transition.step != group[-1].step + 1:
            group = []
            groups.append(group)
            newest[transition.robot, transition.episode] = group
        group.append(transition)
    return groups


def _mcap(path: Path) -> tuple[Any, Any]:
    """Return mcap's writer and its reader."""
    try:
        from mcap.reader import make_reader
        from mcap.writer import Writer
    except ImportError:
        remedy = 'pip install -r requirements/formats.txt'
        raise InputError(path, 'needs mcap', remedy) from None
    return Writer, make_reader
