# SPDX-License-Identifier: Apache-2.0
"""docs/bring-your-own-robot.md: each line that a team is told to type fits the robot, its files and the arguments."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import re
import shlex
import subprocess

import pytest
import yaml

from q2rl_bringup import robot_description
from q2rl_bringup.arguments import ARGUMENTS
from q2rl_bringup.cell_starts import CELL_STARTS
from q2rl_bringup.node_graph import build_graph
from q2rl_bringup.robots import ROBOTS
from q2rl_bringup.share import share_path
from q2rl_task import load_task

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'bring-your-own-robot.md'
SHARE = share_path('config').parent
SHIPPED = yaml.safe_load((SHARE / 'config' / 'q2rl.params.yaml').read_text())
DRIVERS = sorted((SHARE / 'config' / 'drivers').glob('*.params.yaml'))
# Of other people's launch files on their jazzy branches, as far as the page uses them.
VENDOR_ARGUMENTS = {
    'ur_control.launch.py': {
        'ur_type', 'robot_ip', 'launch_rviz', 'kinematics_params_file', 'description_file',
        'headless_mode',
    },
    'calibration_correction.launch.py': {'robot_ip', 'target_filename'},
}  # fmt: skip
SUBSCRIBED = {'target_frame': 'target_pose', 'ft_sensor_wrench': 'broadcaster/wrench'}


def commands() -> list[list[str]]:
    """Return the words of every command in the page's shell blocks, continued lines joined, comments left out."""
    found = []
    for block in re.findall(r'^```sh\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace('\\\n', ' ').splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append(words)
    return found


COMMANDS = commands()
LAUNCHES = [words for words in COMMANDS if words[:2] == ['ros2', 'launch']]
OURS = [words for words in LAUNCHES if words[2] == 'q2rl_bringup' and '--show-args' not in words]
RUNS = [words for words in OURS if words[3] == 'pipe_assembly.launch.py' and 'sim:=none' in words]


def arguments(words: list[str]) -> dict[str, str]:
    assert all(':=' in word for word in words), words
    return dict(word.split(':=', 1) for word in words)


def shown(words: list[str]) -> str:
    return ' '.join(words[3:7])


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """The files that the page tells to make, and its variables."""
    for name in ('fr3', 'ur5e'):
        joints = ''.join(f'<joint name="{joint}"/>' for joint in ROBOTS[name].joints)
        (tmp_path / f'{name}.urdf').write_text(f'<robot name="{name}">{joints}</robot>')
    (tmp_path / 'cell.params.yaml').write_text(DRIVERS[0].read_text())
    (tmp_path / 'learned').mkdir()
    for name in ('actor.safetensors', 'critic.safetensors'):
        (tmp_path / 'learned' / name).touch()
    monkeypatch.chdir(tmp_path)
    variables = {'$SHARE': str(SHARE), '$HOME': str(tmp_path), '$PWD': str(tmp_path)}

    def expand(value: str) -> str:
        for name, text in variables.items():
            value = value.replace(name, text)
        assert '$' not in value, value
        return value

    return expand


def test_every_robot_has_its_lines_for_each_step():
    for robot in ('fr3', 'ur5e'):
        of_it = [arguments(words[4:]) for words in RUNS]
        of_it = [given for given in of_it if given['task'] == f'pipe_assembly_{robot}']
        # Standing still, demonstrations, the first rollout, rollouts and fit before anything is learned.
        modes = [given.get('policy_mode') for given in of_it]
        assert modes[:4] == [None, 'demonstrate', 'bc', None]
        assert of_it[0]['autostart'] == of_it[3]['learn'] == 'false'
        assert of_it[3]['eval_episodes'] == '0', 'RL alone would be evaluated'
        assert of_it[3]['run_dir'] not in [given['run_dir'] for given in of_it[:3]]
        trained = [w for w in COMMANDS if w[:2] == ['./q2rl', 'train-bc']]
        assert any(f'pipe_assembly_{robot}' in words for words in trained)


@pytest.mark.parametrize('words', OURS, ids=shown)
def test_a_start_of_ours_is_accepted_with_its_files_and_makes_its_nodes(words, cell, monkeypatch):
    given = {name: cell(value) for name, value in arguments(words[4:]).items()}
    name = words[3].removesuffix('.launch.py')
    assert (SHARE / 'launch' / words[3]).is_file()
    if name in CELL_STARTS:
        # The vendor's packages are not here; a test of their own has the descriptions.
        monkeypatch.setattr('q2rl_bringup.cell_starts.robot_urdf', lambda *_, **__: '<robot/>')
        assert CELL_STARTS[name].build(given).nodes
        return
    assert set(given) <= {argument.name for argument in ARGUMENTS}
    nodes = {node.name: node for node in build_graph(given).nodes}
    if given.get('sim') != 'none':
        return
    assert {'tip_state', 'fixed_scene', 'arm_interface', 'episode_manager'} <= set(nodes)
    (robot,) = (r for r in ROBOTS.values() if r.base == load_task(given['task']).frames.base)
    assert Path(given['description_file']).name.split('.')[0] == robot.name
    assert Path(given['params_file']).name.split('.')[0] in (robot.name, 'cell')
    assert nodes['tip_state'].parameters['robot_description'] == given['description_file']


@pytest.mark.parametrize('robot', ['fr3', 'ur5e'])
def test_the_careful_copy_is_the_same_task_within_closer_limits(robot, tmp_path):
    task = f'pipe_assembly_{robot}'
    (words,) = (w for w in COMMANDS if w[0] == 'sed' and w[-3].endswith(f'/{task}.yaml'))
    careful = tmp_path / 'careful.yaml'
    careful.write_text(subprocess.check_output(words[:-2], cwd=ROOT, text=True))
    slow, shipped = load_task(careful), load_task(task)
    assert slow.contract_hash == shipped.contract_hash
    for field in ('velocity_m_s', 'velocity_rad_s', 'force_soften_n', 'force_stop_n'):
        assert getattr(slow.limits, field) < 0.5 * getattr(shipped.limits, field)
    same = {'limits': None}
    assert slow.model_copy(update=same) == shipped.model_copy(update=same)


def test_the_params_file_of_a_cell_is_a_driver_s_and_what_the_page_adds():
    copies = [w for w in COMMANDS if w[0] == 'cp' and w[-1] == '$HOME/cell.params.yaml']
    added = [w for w in COMMANDS if w[0] == 'printf']
    assert len(copies) == len(added) == 2
    for copied, printed in zip(copies, added, strict=True):
        file = Path(copied[1].replace('$SHARE', str(SHARE)))
        more = yaml.safe_load(printed[1].replace('\\n', '\n'))
        assert not set(more) & set(yaml.safe_load(file.read_text()))
        for node, section in more.items():
            assert set(section['ros__parameters']) <= set(SHIPPED[node]['ros__parameters'])


@pytest.mark.parametrize(
    'words', [words for words in LAUNCHES if words[2] != 'q2rl_bringup'], ids=lambda w: w[3]
)
def test_a_driver_is_started_by_arguments_that_its_launch_file_declares(words, cell):
    given = arguments(words[4:])
    assert set(given) <= VENDOR_ARGUMENTS[words[3]]
    if 'description_file' in given:
        assert Path(cell(given['description_file'])).is_file()


def test_the_descriptions_are_made_by_a_command_that_takes_these_options(cell, monkeypatch):
    made = []
    monkeypatch.setattr(
        robot_description, 'robot_urdf', lambda task, robot, *rest, **_: made.append((task, robot))
    )
    lines = [words for words in COMMANDS if 'q2rl_bringup.robot_description' in words]
    for words in lines:
        start, end = words.index('q2rl_bringup.robot_description') + 1, words.index('>')
        if 'my_task' not in words:
            assert robot_description.main([cell(word) for word in words[start:end]]) == 0
    assert [robot.name for _, robot in made] == ['fr3', 'ur5e']
    assert all(task.frames.base == robot.base for task, robot in made)


def test_the_compliant_controllers_are_loaded_from_files_that_have_them_and_hear_q2rl(cell):
    (words,) = (w for w in COMMANDS if w[:4] == ['ros2', 'run', 'controller_manager', 'spawner'])
    name, file = words[4], Path(cell(words[words.index('--param-file') + 1]))
    section = yaml.safe_load(file.read_text())[f'/**/{name}']['ros__parameters']
    assert section['type'].endswith('Controller')
    rules = [word for word in words if word.startswith('-r ')]
    assert len(rules) == len(SUBSCRIBED)
    for rule in rules:
        mine, theirs = rule.removeprefix('-r ').split(':=')
        node, topic = mine.split('/')
        assert node == name and theirs.endswith(SUBSCRIBED[topic])
    switched = [w for w in COMMANDS if w[:3] == ['ros2', 'control', 'switch_controllers']]
    assert {w[w.index('--activate') + 1] for w in switched} == {name, 'cartesian_controller'}


@pytest.mark.parametrize('file', DRIVERS, ids=lambda path: path.name)
def test_what_a_driver_changes_are_parameters_that_there_are_in_their_types(file):
    for node, section in yaml.safe_load(file.read_text()).items():
        ours = SHIPPED[node]['ros__parameters']
        for name, value in section['ros__parameters'].items():
            assert type(value) is type(ours[name]), f'{node}.{name}'


def test_services_that_are_called_are_served():
    text = '\n'.join(path.read_text() for path in (ROOT / 'src/q2rl_control').rglob('*_*.py'))
    for name in re.findall(r'ros2 service call /(\S+)', PAGE.read_text()):
        assert f"'{name}'" in text, name
    for name in re.findall(r'ros2 run q2rl_control (\w+)', PAGE.read_text()):
        assert importlib.util.find_spec(f'q2rl_control.{name}_node'), name
