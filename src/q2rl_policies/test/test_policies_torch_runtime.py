# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest


@pytest.mark.timeout(60)
def test_torch_is_prepared():
    """In a process of its own: the settings are global."""
    code = (
        'import sys, torch; from q2rl_policies.torch_runtime import prepare_torch\n'
        'prepare_torch(); tiny = torch.tensor([1e-40])\n'
        'sys.exit(int(torch.get_num_threads() != 1 or (tiny * 0.5).item() != 0.0))'
    )
    assert subprocess.run([sys.executable, '-c', code], timeout=50, check=False).returncode == 0
