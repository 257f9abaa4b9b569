# SPDX-License-Identifier: Apache-2.0
"""Serve the class `Server` of a script over stdin and stdout, one JSON object per line each way.

    python serve.py script.py

Runs under any interpreter and imports the standard library only. A request's `do` names the method that answers it;
the answer to one that failed is `{"error": ..., "kind": ...}`. What is printed on the way goes to stderr. Ends with its
stdin.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback


def main() -> None:
    """Answer requests until there are no more."""
    # A stream of its own for answers: libraries print, also from C.
    answers = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)
    server = runpy.run_path(sys.argv[1])['Server']()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer = getattr(server, request['do'])(request)
        except Exception as error:
            traceback.print_exc()
            answer = {'error': ' '.join(str(error).split()), 'kind': type(error).__name__}
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


if __name__ == '__main__':
    main()
