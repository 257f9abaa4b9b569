# SPDX-License-Identifier: Apache-2.0
"""One policy folder of LeRobot, for the interpreter that LeRobot is installed for; see `serve.py`.

Its own loader and its own processors (normalisation) are used, on the CPU.
"""

from __future__ import annotations

import importlib.util
from typing import Any


class Server:
    """A policy and its processors; requests (`do`): `load`, `reset`, `act`."""

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the policy of a folder; the answer says whether LeRobot is `installed`."""
        if importlib.util.find_spec('lerobot') is None:
            return {'installed': False}
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors
        import torch

        folder = request['folder']
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = 'cpu'
        self._policy = get_policy_class(config.type).from_pretrained(folder, config=config).eval()
        device = {'device_processor': {'device': 'cpu'}}
        self._before, self._after = make_pre_post_processors(
            config, folder, preprocessor_overrides=device, postprocessor_overrides=device
        )
        torch.manual_seed(0)  # a policy that draws noise draws the same in every run
        return {'installed': True}

    def reset(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin an episode: forget the queue of actions."""
        for part in (self._policy, self._before, self._after):
            if hasattr(part, 'reset'):
                part.reset()
        return {}

    def act(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for the `action` on `inputs`, numbers by name."""
        import torch

        with torch.inference_mode():
            batch = {name: torch.tensor([value]) for name, value in request['inputs'].items()}
            action = self._after(self._policy.select_action(self._before(batch)))
        return {'action': action.detach().cpu().numpy()[0].tolist()}
