# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = 'q2rl_lab'

setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        '': ['*.yaml', '*.yml', '*.json', '*.xml', '*.html', '*.css', '*.js', '*.LICENSE'],
        PACKAGE: ['suites/*.yaml', 'suites/*.py'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    maintainer='q2rl developers',
    maintainer_email='developers@q2rl.dev',
    description='In-process trainer, evaluation, benchmarks and the q2rl command line',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'prepare_run = q2rl_lab.prepare_run:main',
            'q2rl = q2rl_lab.cli:main',
        ],
    },
)
