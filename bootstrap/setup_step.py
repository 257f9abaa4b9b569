# SPDX-License-Identifier: Apache-2.0
"""One long step of the setup: what the user sees of it, and that it ends with this process."""

import os
from pathlib import Path
import selectors
import signal
import subprocess
import sys
import time

from bootstrap import machine

ENDING = (signal.SIGINT, signal.SIGTERM)


def say(message: str) -> None:
    """Print to stderr: stdout belongs to the command that is run."""
    print('q2rl: ' + message, file=sys.stderr, flush=True)


def run_step(
    label: str, usual: str, command: list, environment: dict, root: Path, log_file: Path, lock: int
) -> None:
    """Run one command of the setup in root: output to the log, one line of progress to the user.

    The child inherits the lock: should this process be killed, the next start waits for it.
    """
    say(f'{label} (usually {usual})')
    started = shown = time.monotonic()
    line, tail, terminal = '', '', sys.stderr.isatty()
    # Held back until the child is known: a signal in between would leave it running.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = subprocess.Popen(
        command,
        cwd=str(root),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(lock,),
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING),
    )
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        with open(str(log_file), 'ab') as log, selectors.DefaultSelector() as ready:
            log.write(f'\n$ {" ".join(command)}\n'.encode())
            ready.register(child.stdout, selectors.EVENT_READ)
            while True:
                data = b'+'
                if ready.select(timeout=1.0):
                    data = os.read(child.stdout.fileno(), 65536)
                    log.write(data)
                    log.flush()
                    tail = (tail + data.decode(errors='replace'))[-3000:]
                    last = tail.rstrip().rpartition('\n')[2].strip()
                    line = line if last.startswith('WARNING') else last
                seconds = int(time.monotonic() - started)
                if time.monotonic() - shown > (1.0 if terminal else 30.0):
                    shown = time.monotonic()
                    text = f'  {seconds // 60}:{seconds % 60:02d}  {line}'
                    print(
                        '\r\033[K' + text[:78] if terminal else text[:100],
                        end='' if terminal else '\n',
                        file=sys.stderr,
                        flush=True,
                    )
                if not data:
                    break
        code = child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    finally:
        child.stdout.close()
        if terminal:
            print('\r\033[K', end='', file=sys.stderr, flush=True)
    if code:
        sys.stderr.write('\n'.join(tail.splitlines()[-25:]) + '\n')
        why = f'exit code {code}, the end of the log is above'
        if 'No space left on device' in tail:
            why = 'the disk is full'
        raise machine.Failure(f'{label.split(",")[0]} failed: {why}; whole log: {log_file}', code=1)
