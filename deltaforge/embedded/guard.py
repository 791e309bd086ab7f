"""Run one server as a child and end it when the process that asked for it is gone.

Run as a program, never imported: `python -I -S guard.py SIGNAL USER CLEANUP COMMAND...`, standard library only, so it
is up in some 20 ms.

PR_SET_PDEATHSIG alone would not do: it follows the *thread* that forked, and Trio's worker threads come and go. So the
parent holds the write end of a pipe, which the kernel closes however the parent dies, and this single-threaded
process, whose life is the server's, may use PR_SET_PDEATHSIG for the case that it is killed itself.

Rule 1: the first line on stdout is the server's process id.
Rule 2: end of file on stdin means: end the server with SIGNAL, after `GRACE_S` with SIGKILL, remove CLEANUP, leave.
Rule 3: when the server ends first, leave with its exit status and remove nothing: the parent may start it again.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time

GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


def _end(child: subprocess.Popen[bytes], number: int) -> None:
    child.send_signal(number)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _spawn(number: int, user: str, command: list[str]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    account = pwd.getpwnam(user) if user else None
    return subprocess.Popen(  # noqa: S603 - the command comes from our parent
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=before_exec,  # after setuid, which clears the death signal
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _watch(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the child or the parent, whichever ends first; true when it was the parent."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while child.poll() is None:
        # The bound covers a child that ended before the handler above was set.
        ready, _, _ = select.select([0, woken], [], [], 1.0)
        if 0 in ready and not os.read(0, 1):
            return True
        if woken in ready:
            os.read(woken, 64)
    return False


def main() -> int:
    """Run the server named on the command line until it or the parent ends."""
    number, user, cleanup, command = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
    child = _spawn(number, user, command)
    os.write(1, f"{child.pid}\n".encode())
    if _watch(child):
        _end(child, number)
        if cleanup:
            time.sleep(0.1)  # the server's own children, gone within moments, may still write
            shutil.rmtree(cleanup, ignore_errors=True)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main())
