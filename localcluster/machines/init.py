"""The first process of a node: it collects what has ended, and the node ends with it.

A node is a PID namespace, so that its containers, which carry no mark of ours, die with
this process whatever it dies of (pid_namespaces(7)).
"""

import os
import signal


def main() -> None:
    """Collect children until killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        while _collected():
            pass


def _collected() -> bool:
    """Whether there was a child that had ended."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    main()
