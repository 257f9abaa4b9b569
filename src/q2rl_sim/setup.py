# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = 'q2rl_sim'

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
    description='A simulated arm behind the topics of the controllers of ros2_control',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'gazebo_scene = q2rl_sim.gazebo_scene_node:main',
            'mujoco_arm = q2rl_sim.mujoco_arm_node:main',
        ],
    },
)
