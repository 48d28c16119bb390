"""The Celery application; worker and beat are started with `celery -A config worker` and `celery -A config beat`."""

import logging
import logging.config
import os
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from django.conf import settings

from infra.sharding.background import end_all, start_all

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logger = logging.getLogger(__name__)

app = Celery("floodgate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class BeatScheduler(Scheduler):
    """Beat's schedule, kept in memory: all tasks are idempotent, so nothing about past runs is worth a file.

    While the broker is away a task is skipped with one line in the log; its next turn comes by itself.
    """

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send a task that is due."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # noqa: BLE001 - beat goes on, whatever the broker's client raises
            logger.error("%s could not be sent: %s", entry.task, error)  # noqa: TRY400


@setup_logging.connect
def use_project_logging(**_: Any) -> None:
    """Log as everything else does; that somebody listens here keeps Celery from setting up its own."""
    logging.config.dictConfig(settings.LOGGING)


@worker_process_init.connect
def begin_worker_process(**_: Any) -> None:
    """Give a forked child background work of its own; Celery itself lets go of its parent's connections."""
    start_all()


@worker_process_shutdown.connect
def end_worker_process(**_: Any) -> None:
    """Let go of what the process holds (its worker number): Celery's children end without Python's exit hooks."""
    end_all()
