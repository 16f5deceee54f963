"""The first process of a node: it reaps its children, and when it ends, the kernel ends all others.

A node is a PID namespace. The node's containers do not have the sandbox's environment variable,
but the kernel kills them with this process, however it ends (pid_namespaces(7)).
"""

import os
import signal


def main() -> None:
    """Reap children until killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        while reap_child():
            pass


def reap_child() -> bool:
    """Reap a child that has ended; whether there was one."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    main()
