# SPDX-License-Identifier: Apache-2.0
"""The FR3 by the description of the Panda: it has its kinematics, other joint limits, and other names."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

FR3_LIMITS = {
    'fr3_joint1': (-2.7437, 2.7437, 2.62),
    'fr3_joint2': (-1.7837, 1.7837, 2.62),
    'fr3_joint3': (-2.9007, 2.9007, 2.62),
    'fr3_joint4': (-3.0421, -0.1518, 2.62),
    'fr3_joint5': (-2.8065, 2.8065, 5.26),
    'fr3_joint6': (0.5445, 4.5169, 4.18),
    'fr3_joint7': (-3.0159, 3.0159, 5.26),
}
"""Least and largest position [rad] and speed [rad/s], as franka_description has them."""
SENSORS = {'tcp_fts_sensor': 'fr3_tcp'}
"""The Panda's sensor in simulation, and what franka_hardware calls its own: one controller file serves both."""
NAMING = ('name', 'link', 'joint', 'reference', 'link1', 'link2')


def as_fr3(tree: ElementTree.Element) -> None:
    """Make the URDF of a Panda that of an FR3, in place: names with `fr3_` for `panda_`, and its joint limits.

    Shapes and inertias stay the Panda's, where the two differ by little: not for a controller that needs the dynamics.
    """
    for element in tree.iter():
        for attribute in NAMING:
            name = element.get(attribute, '')
            if name.startswith('panda_'):
                element.set(attribute, name.replace('panda_', 'fr3_', 1))
    for sensor in tree.iter('sensor'):
        sensor.set('name', SENSORS.get(sensor.get('name'), sensor.get('name')))
    for system in tree.findall('ros2_control'):
        system.set('name', 'fr3')
    for joint in tree.findall('joint'):
        limits = FR3_LIMITS.get(joint.get('name'))
        if limits is None:
            continue
        for attribute, value in zip(('lower', 'upper', 'velocity'), limits, strict=True):
            joint.find('limit').set(attribute, str(value))
        if (safety := joint.find('safety_controller')) is not None:
            joint.remove(safety)
