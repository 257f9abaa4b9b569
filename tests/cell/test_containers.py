# SPDX-License-Identifier: Apache-2.0
"""Images, compose files and workflows hold together, as far as reading them shows: none of them has ever run."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess

import pytest
import yaml

from q2rl_bringup.arguments import parse_arguments
from q2rl_bringup.node_graph import build_graph
from q2rl_control.safety_latch import state_folder
from q2rl_lab.outcomes import ALLOWED_SKIPS

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / 'docker'
COMPOSE = sorted(DOCKER.glob('compose.*.yaml'))
WORKFLOWS = sorted((ROOT / '.github' / 'workflows').glob('*.yml'))
SHA = re.compile(r'[0-9a-f]{40}')
TRIGGERS = {'push', 'pull_request', 'schedule', 'workflow_dispatch'}
JOB_KEYS = {
    'runs-on', 'timeout-minutes', 'strategy', 'container', 'defaults', 'steps', 'needs', 'env', 'if', 'permissions',
}  # fmt: skip
STEP_KEYS = {'uses', 'run', 'with', 'name', 'if', 'env', 'shell', 'working-directory', 'id'}


def instructions():
    """Return the Dockerfile's instructions with their stage: (stage, keyword, rest)."""
    text = re.sub(r'\\\n', ' ', (DOCKER / 'Dockerfile').read_text())
    stage, found = '', []
    for line in text.splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        keyword, _, rest = line.partition(' ')
        if keyword == 'FROM':
            stage = rest.split()[-1]
        found.append((stage, keyword, rest.strip()))
    return found


def stages():
    """Return each stage's instructions, those of the stages it builds on first."""
    own, parent = {}, {}
    for stage, keyword, rest in instructions():
        own.setdefault(stage, []).append((keyword, rest))
        if keyword == 'FROM':
            parent[stage] = rest.split()[0]
    whole = {}
    for stage in own:
        chain, at = [], stage
        while at in own:
            chain, at = own[at] + chain, parent[at]
        whole[stage] = chain
    return whole


FINAL = ('robot', 'learner', 'simulation')


def last(stage, keyword):
    return [rest for word, rest in stages()[stage] if word == keyword][-1]


def test_every_base_image_is_pinned_by_digest_or_a_stage():
    known = set()
    for stage, keyword, rest in instructions():
        if keyword == 'FROM':
            image = rest.split()[0]
            assert image in known or re.search(r'@sha256:[0-9a-f]{64}$', image), image
            known.add(stage)


def test_everything_that_is_copied_exists_and_is_in_the_context():
    ignored = {line.strip('*/') for line in (ROOT / '.dockerignore').read_text().split()}
    copied = 0
    for _, keyword, rest in instructions():
        if keyword == 'COPY':
            *sources, _target = [word for word in rest.split() if not word.startswith('--')]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source.split('/')[0] not in ignored, source
                copied += 1
    assert copied >= 6


@pytest.mark.parametrize('stage', FINAL)
def test_no_image_ends_as_root_and_each_knows_whether_it_is_well(stage):
    assert last(stage, 'USER') == 'q2rl'
    check = last(stage, 'HEALTHCHECK')
    script = re.search(r'"/opt/q2rl/(docker/[\w.]+)"', check).group(1)
    assert (ROOT / script).is_file()
    assert last(stage, 'ENTRYPOINT') == '["/opt/q2rl/docker/entrypoint.sh"]'


@pytest.fixture
def launched(tmp_path):
    """Return what runs a container's command with `ros2` replaced, and returns the arguments of the launch file."""
    stand_in = tmp_path / 'ros2'
    stand_in.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)

    def launched(command, **variables):
        script = ROOT / command[0].removeprefix('/opt/q2rl/')
        environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', **variables}
        done = subprocess.run(
            [script, *command[1:]], env=environment, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stderr
        verb, package, file, *arguments = done.stdout.splitlines()
        assert verb == 'launch' and (ROOT / 'src' / package / 'launch' / file).is_file()
        # What ros2 launch calls malformed: no name, or no value.
        assert all(re.fullmatch(r'\w+:=.+', argument) for argument in arguments), arguments
        given = dict(argument.split(':=', 1) for argument in arguments)
        parse_arguments(given)
        return given

    return launched


@pytest.mark.parametrize('stage', FINAL)
def test_what_an_image_starts_is_something_that_there_is(stage, launched):
    words = yaml.safe_load(last(stage, 'CMD'))
    if words[:2] == ['./q2rl', 'up']:
        assert (ROOT / 'q2rl').is_file()
    else:
        assert launched(words) == {'part': stage, 'sim': 'none', 'run_dir': '/runs/cell'}


def test_the_split_hands_task_parameters_and_description_to_the_launch_file(launched):
    content = yaml.safe_load((DOCKER / 'compose.split.yaml').read_text())
    given = {'TASK': '/runs/cell/t.yaml', 'PARAMS': '/runs/cell/p.yaml', 'DESCRIPTION': '/r.urdf'}
    given |= {'SCENE': 'fixed', 'ARGUMENTS': 'policy_mode:=bc eval_episodes:=3'}
    told = {'params_file': given['PARAMS'], 'description_file': given['DESCRIPTION']}
    told |= {'scene': 'fixed', 'policy_mode': 'bc', 'eval_episodes': '3'}
    for name, files in (
        ('robot', told),
        ('learner', {'params_file': given['PARAMS'], 'device': 'cuda'}),
    ):
        service = content['services'][name]
        handed = {
            key: given[key] for key in given if service['environment'].get(key) == f'${{{key}:-}}'
        }
        command = service.get('command') or yaml.safe_load(last(name, 'CMD'))
        expected = {'part': name, 'sim': 'none', 'run_dir': '/runs/cell', 'task': given['TASK']}
        assert launched(command, **handed) == {**expected, **files}


def test_the_example_of_the_environment_starts_what_an_episode_needs(launched, tmp_path):
    lines = (DOCKER / 'env.example').read_text().splitlines()
    variables = dict(line.split('=', 1) for line in lines if line and not line.startswith('#'))
    variables['DESCRIPTION'] = str(tmp_path / 'robot.urdf')
    Path(variables['DESCRIPTION']).write_text('<robot name="any"/>')
    asked = yaml.safe_load((DOCKER / 'compose.split.yaml').read_text())['services']['robot']
    handed = {name: variables[name] for name in asked['environment'] if name in variables}
    given = launched(yaml.safe_load(last('robot', 'CMD')), **handed)
    nodes = {node.name for node in build_graph({**given, 'run_dir': str(tmp_path)}).nodes}
    # prepare_scene and success_signal; the pose; who asks for episodes.
    assert {'fixed_scene', 'tip_state', 'arm_interface', 'episode_manager', 'bc_policy'} <= nodes


def test_a_learner_that_ends_by_what_it_was_told_is_not_started_for_ever():
    services = yaml.safe_load((DOCKER / 'compose.split.yaml').read_text())['services']
    assert re.fullmatch(r'on-failure:\d', services['learner']['restart'])


def test_the_example_of_the_environment_has_each_variable_of_the_split():
    asked = set(re.findall(r'\$\{(\w+)', (DOCKER / 'compose.split.yaml').read_text()))
    lines = (DOCKER / 'env.example').read_text().splitlines()
    assert asked == {line.split('=')[0] for line in lines if line and not line.startswith('#')}


def environment_of(stage):
    """Return the variables that an image sets."""
    return dict(
        pair.split('=', 1)
        for word, rest in stages()[stage]
        if word == 'ENV'
        for pair in rest.split()
    )


def arms():
    """Return (compose file, service) of each container in which an arm is commanded."""
    return [
        (path, name)
        for path in COMPOSE
        for name, service in yaml.safe_load(path.read_text())['services'].items()
        if service['build']['target'] in ('robot', 'simulation') and name != 'discovery'
    ]


@pytest.mark.parametrize(('path', 'name'), arms(), ids=lambda x: getattr(x, 'name', x))
def test_a_latched_stop_outlives_the_container(path, name, monkeypatch):
    content = yaml.safe_load(path.read_text())
    service = content['services'][name]
    for variable in ('XDG_STATE_HOME', 'HOME'):
        monkeypatch.delenv(variable, raising=False)
    environment = environment_of(service['build']['target']) | service.get('environment', {})
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    latch = state_folder('', '/runs/cell', lockstep=False)
    kept = [
        target
        for source, target in (volume.split(':')[:2] for volume in service['volumes'])
        if source in content['volumes']
    ]
    assert any(latch.is_relative_to(target) for target in kept), f'{latch} is in no volume'


def test_there_are_arms_in_containers():
    assert len(arms()) == 2


def test_the_robot_has_what_its_ways_to_plan_and_to_command_load():
    installed = ' '.join(rest for word, rest in stages()['robot'] if word == 'RUN')
    config = (ROOT / 'src/q2rl_control/q2rl_control/moveit_config.py').read_text()
    files = (ROOT / 'src/q2rl_bringup/config/moveit').glob('*/*.yaml')
    told = [config, *(file.read_text() for file in files if file.name != 'servo.yaml')]
    # The adapters are MoveIt's own, which moveit_py depends on.
    brought = {
        'kdl_kinematics_plugin': 'moveit-kinematics',
        'ompl_interface': 'moveit-planners-ompl',
        'default_planning_request_adapters': 'moveit-py',
        'default_planning_response_adapters': 'moveit-py',
    }
    plugins = {name for text in told for name in re.findall(r"[\s']([a-z_]+)/[A-Z]\w+", text)}
    assert plugins == set(brought)
    assert all(f'ros-jazzy-{package} ' in installed for package in brought.values())
    for package in ('moveit-py', 'moveit-servo', 'pinocchio', 'coal', 'joy', 'spacenav'):
        assert f'ros-jazzy-{package} ' in installed


def test_the_health_check_is_told_of_nodes_by_a_discovery_server():
    before, lifecycle, _ = (DOCKER / 'healthy.sh').read_text().partition('ros2 lifecycle get')
    assert lifecycle and '\nexport ROS_SUPER_CLIENT=TRUE\n' in before


@pytest.mark.parametrize('script', sorted(DOCKER.glob('*.sh')), ids=lambda p: p.name)
def test_scripts_are_executable_and_parse(script):
    assert script.stat().st_mode & 0o111
    assert subprocess.run(['bash', '-n', script], timeout=20, check=False).returncode == 0


@pytest.mark.parametrize('path', COMPOSE, ids=lambda p: p.name)
def test_compose_files_name_stages_volumes_and_services_that_exist(path):
    content = yaml.safe_load(path.read_text())
    for name, service in content['services'].items():
        build = service['build']
        assert (path.parent / build['context'] / build['dockerfile']).resolve().is_file()
        assert build['target'] in FINAL and service['image'] == f'q2rl:{build["target"]}'
        for volume in service.get('volumes', ()):
            assert volume.split(':')[0] in content['volumes'], name
        for other, how in service.get('depends_on', {}).items():
            assert other in content['services'] and how['condition'] == 'service_healthy'
            assert 'healthcheck' in content['services'][other]
        assert not service.get('privileged') and service.get('user') != 'root'


def test_the_split_has_its_halves_on_two_machines_that_find_each_other():
    services = yaml.safe_load((DOCKER / 'compose.split.yaml').read_text())['services']
    assert services['robot']['profiles'] == ['robot'] != services['learner']['profiles']
    servers = {
        services[name]['environment']['ROS_DISCOVERY_SERVER'] for name in ('robot', 'learner')
    }
    assert len(servers) == 1 and servers.pop().endswith(':11811')
    assert '11811' in services['discovery']['command']
    # The server knows nothing of a domain, and asks no server.
    assert 'environment' not in services['discovery']
    # The arm starts by a person's hand only.
    assert services['robot']['restart'] == 'no'
    devices = services['learner']['deploy']['resources']['reservations']['devices']
    assert devices[0]['capabilities'] == ['gpu']
    assert f'{11811:04X}' in (DOCKER / 'healthy.sh').read_text()


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.name)
def test_workflows_have_the_form_of_workflows_and_pin_their_actions(path):
    content = yaml.safe_load(path.read_text())
    triggers = content.pop(True)  # YAML 1.1 reads `on` as true
    assert set(triggers) <= TRIGGERS
    assert content['permissions'] == {'contents': 'read'}
    for name, job in content['jobs'].items():
        assert set(job) <= JOB_KEYS and job['timeout-minutes'] > 0, name
        if 'container' in job:
            assert re.search(r'@sha256:[0-9a-f]{64}$', job['container'])
        for step in job['steps']:
            assert set(step) <= STEP_KEYS and ('uses' in step) != ('run' in step)
            if 'uses' in step:
                action, _, version = step['uses'].partition('@')
                assert SHA.fullmatch(version), f'{action} is not pinned by a commit'


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.name)
def test_workflows_run_what_there_is(path):
    text = path.read_text()
    for target in re.findall(r'--target (\w+)', text):
        assert target in FINAL
    for file in re.findall(r'-f (\S+)', text):
        assert (ROOT / file).is_file()
    for module in re.findall(r'-m (q2rl_\w+\.\w+)', text):
        package, name = module.split('.')
        assert (ROOT / 'src' / package / package / f'{name}.py').is_file()


def test_the_workflows_cover_lint_tests_jazzy_gazebo_and_the_long_ones():
    commands = [
        step['run']
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text())['jobs'].values()
        for step in job['steps']
        if 'run' in step
    ]
    lines = [line.split() for text in commands for line in text.splitlines()]
    for wanted in (['ruff', 'check', '.'], ['./q2rl', 'test', '--all', '--skips', 'embedded']):
        assert wanted in lines
    # No run of the tests passes by skipping what it should have had.
    tests = [
        words[words.index('test') :] for words in lines if './q2rl' in words and 'test' in words
    ]
    known = set(yaml.safe_load((ROOT / ALLOWED_SKIPS).read_text()))
    asked = {words[words.index('--skips') + 1] for words in tests if '--prove' not in words}
    assert asked == known == {'embedded', 'jazzy'}
    whole = '\n'.join(commands)
    assert 'colcon build' in whole and 'colcon test' in whole and '--sim gazebo' in whole


def test_python_is_ubuntus_everywhere_and_sees_the_requirements():
    # What is activated changes PATH only, and `ros2` and the nodes do not ask PATH for their Python.
    places = [DOCKER / 'Dockerfile', *DOCKER.glob('*.sh'), *WORKFLOWS]
    assert not any('bin/activate' in path.read_text() for path in places)
    for stage in FINAL:
        (made,) = re.findall(r'-m venv --system-site-packages (\S+)', str(stages()[stage]))
        assert (
            environment_of(stage)['PYTHONPATH'] == f'/opt/q2rl/{made}/lib/python3.12/site-packages'
        )
    job = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())['jobs']['jazzy']
    steps = ' '.join(step.get('run', '') for step in job['steps'])
    (made,) = re.findall(r'-m venv --system-site-packages (\S+)', steps)
    assert job['env']['PYTHONPATH'] == f'{made}/lib/python3.12/site-packages'
    # And each is shown to load a launch file by `ros2` itself.
    assert 'ros2 launch q2rl_bringup pipe_assembly.launch.py --show-args' in steps
    assert 'pipe_assembly.launch.py --show-args' in str(stages()['runtime'])
