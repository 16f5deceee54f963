"""The check of `tests/conftest.py` that a test leaves no process behind."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import psutil

from tests.conftest import child_processes

GRANDCHILD = """
import subprocess, sys
for line in sys.stdin:
    print(subprocess.Popen(["sleep", "infinity"], stdout=subprocess.DEVNULL).pid, flush=True)
"""
"""A program that starts a process for each line that it reads."""


async def test_processes_of_an_older_process_are_not_those_of_the_test() -> None:
    """The worker that started the shared cluster is the ancestor of the pods that the tests of all workers start."""
    older = await asyncio.create_subprocess_exec(sys.executable, "-c", GRANDCHILD, stdin=PIPE, stdout=PIPE)
    assert older.stdin
    assert older.stdout
    before = child_processes()
    older.stdin.write(b"\n")
    started = psutil.Process(int(await older.stdout.readline()))
    try:
        found, without_older = child_processes(), child_processes(before)
    finally:
        started.kill()
        older.stdin.close()
        await older.wait()

    assert started in found
    assert started not in without_older
