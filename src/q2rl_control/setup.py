# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = 'q2rl_control'

setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={'': ['*.yaml', '*.yml', '*.json', '*.xml', '*.html', '*.css', '*.js']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    maintainer='q2rl developers',
    maintainer_email='developers@q2rl.dev',
    description='Observing, guarding and commanding the arm; episodes and resets',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'arm_interface = q2rl_control.arm_interface_node:main',
            'fixed_scene = q2rl_control.fixed_scene_node:main',
            'tip_state = q2rl_control.tip_state_node:main',
            'episode_manager = q2rl_control.episode_manager_node:main',
            'teleop = q2rl_control.teleop_node:main',
        ],
    },
)
