"""Runs management commands in processes forked from one that has loaded Django: loading costs more than most commands.

`python -m tests.e2e.command_server` reads a JSON list a line (the seconds it may take, then the command's words) and
answers each with another: exit status, output, errors. A command inherits code and nothing else: the process that it
is forked from has no connection, no cache and no thread.
"""

import gc
import json
import os
import signal
import sys
import tempfile

import django
from django.core.checks import run_checks
from django.core.management import execute_from_command_line


def serve() -> None:
    """Answer requests until there are no more; in a forked process, run the command and return."""
    django.setup()
    run_checks()  # loads what each command's own checks would
    gc.freeze()  # or each forked process would look through, and so copy, all that it inherits when it ends
    for line in sys.stdin:
        timeout_s, *words = json.loads(line)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), sys.stdout.fileno())
                os.dup2(errors.fileno(), sys.stderr.fileno())
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
                execute_from_command_line(["manage.py", *words])
                return
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            told = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (output, errors)]
        print(json.dumps([status, *told]), flush=True)


if __name__ == "__main__":
    serve()
