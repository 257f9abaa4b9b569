# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = 'q2rl_policies'

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
    description='Policies, critics, the Q-gate and their nodes',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'bc_policy = q2rl_policies.bc_policy_node:main',
            'rl_policy = q2rl_policies.rl_policy_node:main',
            'q_gate = q2rl_policies.q_gate_node:main',
        ],
    },
)
