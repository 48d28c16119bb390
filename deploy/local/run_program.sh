#!/bin/sh
# Starts one supervised program: run_program.sh ENVIRONMENT_FILE PID_FILE COMMAND...
# The environment is read here, at each start, rather than handed down by the supervisor, so that a restart of the
# program is enough to take up a new setting; exec keeps the process that the supervisor watches.
set -eu
. "$1"
echo $$ >"$2"
shift 2
exec "$@"
