# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = 'q2rl_learner'

setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        '': [
            '*.yaml',
            '*/*.yaml',
            '*/*/*.yaml',
            '*.yml',
            '*.json',
            '*.xml',
            '*.html',
            '*.css',
            '*.js',
        ]
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    maintainer='q2rl developers',
    maintainer_email='developers@q2rl.dev',
    description='Replay, behaviour cloning, Q-Estimation, updates and the learner node',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'demonstration_recorder = q2rl_learner.demonstration_recorder_node:main',
            'transition_recorder = q2rl_learner.transition_recorder_node:main',
            'learner = q2rl_learner.learner_node:main',
        ],
    },
)
