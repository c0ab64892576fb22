"""Commands in forks of the process that tests: they need no imports, and may be killed."""

import os

from harness.cli import main


def forked(arguments, before=lambda: None):
    """A child that runs the command line after ``before``; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        before()
        code = main(arguments)
    finally:
        os._exit(code)


def ended_with(pid):
    """The exit code of the child; the signal that ended it, below zero."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
