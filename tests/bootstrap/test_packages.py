# SPDX-License-Identifier: Apache-2.0
"""The house rules of the packages: who imports whom, what manifests declare, what gets installed."""

from __future__ import annotations

import ast
from functools import cache
import os
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / 'src'

# Which of the other packages a package may import. Learner, control and sim never meet; the command
# line starts what the bringup describes, so it comes last.
BASE = {'q2rl_msgs', 'q2rl_task', 'q2rl_ros', 'q2rl_policies'}
MAY_IMPORT = {
    'q2rl_msgs': set(),
    'q2rl_task': set(),
    'q2rl_ros': {'q2rl_msgs', 'q2rl_task'},
    'q2rl_policies': {'q2rl_msgs', 'q2rl_task', 'q2rl_ros'},
    'q2rl_learner': BASE,
    'q2rl_control': BASE,
    'q2rl_sim': BASE,
    'q2rl_bringup': {*BASE, 'q2rl_learner', 'q2rl_control', 'q2rl_sim'},
    'q2rl_lab': {*BASE, 'q2rl_learner', 'q2rl_control', 'q2rl_sim', 'q2rl_bringup'},
}
PURE = {'q2rl_task': {'rclpy', 'torch', 'mujoco'}, 'q2rl_policies': {'mujoco'}}

# Names in rosdep of what is not called the same there; None where rosdep has no name for it, or a choice that not every
# installation makes (MoveIt).
ROSDEP = {
    'PIL': 'python3-pil',
    'gymnasium': None,
    'h5py': 'python3-h5py',
    'lerobot': None,
    'matplotlib': 'python3-matplotlib',
    'mcap': None,
    'moveit': None,
    'moveit_msgs': None,
    'mujoco': 'python3-mujoco-pip',
    'numpy': 'python3-numpy',
    'ompl': None,
    'onnxruntime': None,
    'psutil': 'python3-psutil',
    'pinocchio': 'pinocchio',
    'pyarrow': None,
    'pydantic': 'python3-pydantic',
    'rich': 'python3-rich',
    'robosuite': None,
    'safetensors': None,
    'scipy': 'python3-scipy',
    'torch': 'python3-torch',
    'typer': 'python3-typer',
    'viser': None,
    'websockets': 'python3-websockets',
    'yaml': 'python3-yaml',
}
TEST_ONLY = {'pytest', 'hypothesis'}


@cache
def imports(package: str) -> dict[str, set[str]]:
    """Return the top-level names that the modules of a package import, each with its importers."""
    found: dict[str, set[str]] = {}
    for file in sorted((SOURCE / package / package).rglob('*.py')):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.split('.')[0], set()).add(file.name)
    return {
        name: files
        for name, files in found.items()
        if name not in sys.stdlib_module_names and name not in {package, '__future__'}
    }


def manifest(package: str) -> ElementTree.Element:
    return ElementTree.parse(SOURCE / package / 'package.xml').getroot()


def declared(package: str) -> set[str]:
    return {
        element.text or ''
        for element in manifest(package)
        if element.tag in ('depend', 'exec_depend')
    }


def test_every_package_is_known_here() -> None:
    assert {path.parent.name for path in SOURCE.glob('*/package.xml')} == set(MAY_IMPORT)


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    ours = {name: files for name, files in imports(package).items() if name.startswith('q2rl')}
    wrong = {name: files for name, files in ours.items() if name not in MAY_IMPORT[package]}
    assert not wrong, f'{package} must not import these'
    assert not PURE.get(package, set()) & set(imports(package))


@pytest.mark.parametrize('package', sorted(set(MAY_IMPORT) - {'q2rl_msgs'}))
def test_the_map_of_a_package_names_all_its_modules(package: str) -> None:
    folder = SOURCE / package / package
    text = ast.get_docstring(ast.parse((folder / '__init__.py').read_text()))
    modules = {path.stem for path in folder.glob('*.py')} - {'__init__'}
    named = set(re.findall(r'`(\w+)`', text))
    assert named == modules, f'mend the docstring of {package}/__init__.py'


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_manifest_declares_what_is_imported(package: str) -> None:
    wanted = {ROSDEP.get(name, name) for name in set(imports(package)) - TEST_ONLY} - {None}
    assert wanted <= declared(package)


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_manifest_and_setup_say_the_same(package: str) -> None:
    root = manifest(package)
    texts = {tag: root.findtext(tag) for tag in ('name', 'version', 'license')}
    assert root.get('format') == '3'
    assert (texts['name'], texts['license']) == (package, 'Apache-2.0')
    if package != 'q2rl_msgs':
        setup = (SOURCE / package / 'setup.py').read_text()
        assert f"version='{texts['version']}'" in setup
        assert root.findtext('export/build_type') == 'ament_python'


def executables() -> list[tuple[str, str, str]]:
    """Return package, name and module of every console script of every setup.py."""
    pattern = re.compile(r"'(\w+) = ([\w.]+):main'")
    return [
        (file.parent.name, *match)
        for file in sorted(SOURCE.glob('*/setup.py'))
        for match in pattern.findall(file.read_text())
    ]


@pytest.mark.parametrize(('package', 'name', 'module'), executables())
def test_executable_is_installed_and_its_module_has_a_main(
    package: str, name: str, module: str
) -> None:
    assert os.access(ROOT / 'install' / package / 'lib' / package / name, os.X_OK)
    tree = ast.parse((SOURCE / package / f'{module.replace(".", "/")}.py').read_text())
    assert 'main' in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize('package', sorted(set(MAY_IMPORT) - {'q2rl_msgs', 'q2rl_ros'}))
def test_every_node_module_is_an_executable(package: str) -> None:
    modules = {
        file.stem
        for file in (SOURCE / package / package).glob('*_node.py')
        if re.search(r'^def main\(', file.read_text(), re.MULTILINE)
    }
    scripts = {module.split('.')[1] for owner, _, module in executables() if owner == package}
    assert modules <= scripts


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_share_directory_holds_every_data_file(package: str) -> None:
    from ament_index_python.packages import get_package_share_directory

    share = Path(get_package_share_directory(package))
    assert (share / 'package.xml').is_file()
    for folder in ('launch', 'config', 'rviz', 'urdf', 'msg', 'srv'):
        for file in (SOURCE / package / folder).rglob('*'):
            if file.is_file() and not file.name.endswith('.pyc'):
                assert (share / file.relative_to(SOURCE / package)).is_file(), file


def test_every_message_can_be_imported() -> None:
    stems = {
        folder: sorted(file.stem for file in (SOURCE / 'q2rl_msgs' / folder).glob(f'*.{folder}'))
        for folder in ('msg', 'srv')
    }
    assert stems['msg']
    lines = [
        f'from q2rl_msgs.{folder} import {name}; {name}{".Request" if folder == "srv" else ""}()'
        for folder, names in stems.items()
        for name in names
    ]
    done = subprocess.run(
        [sys.executable, '-c', '\n'.join(lines)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_requirement_files_pin_all_they_name() -> None:
    for file in (ROOT / 'requirements').rglob('*.txt'):
        for line in file.read_text().splitlines():
            wish = line.split('#')[0].split(';')[0].strip()
            if wish and wish not in ('-c constraints.txt', '-r app.txt'):
                assert re.fullmatch(r'[A-Za-z0-9_.-]+(\[\w+\])?==[\w.]+', wish), (
                    f'{file.name}: {line}'
                )
