# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the two interfaces of moveit_msgs that the Servo sink uses, which PyPI does not have.

Names, values and fields are those of moveit_msgs/msg/ServoStatus and moveit_msgs/srv/ServoCommandType of the jazzy
branch. They are plain classes: no such message can cross DDS, so tests hand them to the handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
import sys
from types import ModuleType


@dataclass
class ServoStatus:
    INVALID = -1
    NO_WARNING = 0
    DECELERATE_FOR_APPROACHING_SINGULARITY = 1
    HALT_FOR_SINGULARITY = 2
    DECELERATE_FOR_LEAVING_SINGULARITY = 3
    DECELERATE_FOR_COLLISION = 4
    HALT_FOR_COLLISION = 5
    JOINT_BOUND = 6

    code: int = 0
    message: str = ''


class ServoCommandType:
    @dataclass
    class Request:
        JOINT_JOG = 0
        TWIST = 1
        POSE = 2

        command_type: int = 0

    @dataclass
    class Response:
        success: bool = False


def modules() -> dict[str, ModuleType]:
    """Return what goes into `sys.modules`."""
    package, msg, srv = (
        ModuleType(n) for n in ('moveit_msgs', 'moveit_msgs.msg', 'moveit_msgs.srv')
    )
    msg.ServoStatus, srv.ServoCommandType = ServoStatus, ServoCommandType
    return {module.__name__: module for module in (package, msg, srv)}


def install(monkeypatch) -> None:
    """Make `import moveit_msgs` find the stand-in, until the test is over."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def uninstall(monkeypatch) -> None:
    """Make `import moveit_msgs` fail, wherever this runs."""
    for name in modules():
        monkeypatch.setitem(sys.modules, name, None)
