"""A relay that stops between publish and mark and says so: `python -m tests.factories.event_relay ALIAS FILE`."""

import sys
import time
from pathlib import Path

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - needs the settings

from infra.outbox.relay import OutboxRelay  # noqa: E402


def _stop_here(_relay: OutboxRelay, _state: object, ids: list[int]) -> None:
    if not ids:
        return
    Path(sys.argv[2]).write_text(str(len(ids)))
    time.sleep(60)


mark = OutboxRelay._mark
OutboxRelay._mark = lambda relay, state, ids: _stop_here(relay, state, ids) if ids else mark(relay, state, ids)
call_command("run_relay", "--alias", sys.argv[1])
