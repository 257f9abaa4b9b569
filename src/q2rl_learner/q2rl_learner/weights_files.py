# SPDX-License-Identifier: Apache-2.0
"""What a learner publishes, as networks files: the actor, which acts, and the critics and V, which the gate asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from q2rl_policies.actor import TanhGaussianActor
from q2rl_policies.networks_file import pack


def actor_file(actor: TanhGaussianActor, meta: Mapping[str, Any]) -> bytes:
    """Return the file of kind `actor`.

    :param meta: what it says of its origin: contract, task, version, parent, gradient steps
    """
    return pack('actor', actor.state_dict(), {**meta, 'architecture': actor.architecture})


def critic_file(parts: Mapping[str, nn.Module], meta: Mapping[str, Any]) -> bytes:
    """Return the file of kind `critic`, which holds several networks, each under its name.

    :param meta: as of `actor_file`, and what the gate needs besides networks: alpha, attainable returns, V's version
    """
    tensors = {f'{part}.{k}': v for part, net in parts.items() for k, v in net.state_dict().items()}
    architecture = {part: net.architecture for part, net in parts.items()}
    return pack('critic', tensors, {**meta, 'architecture': architecture})
