# SPDX-License-Identifier: Apache-2.0
from glob import glob
import os

from setuptools import find_packages, setup

PACKAGE = 'q2rl_bringup'


def share(folder: str) -> list[tuple[str, list[str]]]:
    """List the files of a folder, sub-folders included, for installation under share/."""
    found = []
    for directory, _, _ in sorted(os.walk(folder)):
        files = sorted(path for path in glob(f'{directory}/*') if os.path.isfile(path))
        if files:
            found.append((os.path.join('share', PACKAGE, directory), files))
    return found


setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={'': ['*.yaml', '*.yml', '*.json', '*.xml', '*.html', '*.css', '*.js']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *share('launch'),
        *share('config'),
        *share('rviz'),
        *share('urdf'),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    maintainer='q2rl developers',
    maintainer_email='developers@q2rl.dev',
    description='Node graph, launch files, parameters, robot description',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'operator_view = q2rl_bringup.operator_view_node:main',
            'scene_view = q2rl_bringup.scene_view_node:main',
        ],
    },
)
