"""Entry point of the one-machine stack: ``python3 deploy/local/stack.py --help``."""

import runpy
import sys
from pathlib import Path

# The repository's root takes the place of this folder, so that the package is imported by its full name.
sys.path[0] = str(Path(__file__).resolve().parents[2])
runpy.run_module("deploy.local.commands", run_name="__main__", alter_sys=True)
