"""Beat's table: every entry is a task that exists, and none can pile up."""

from celery.schedules import crontab
from django.conf import settings

from config.celery import app


def test_every_entry_names_a_task_that_exists():
    app.loader.import_default_modules()

    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


def test_every_task_of_the_project_is_in_the_table():
    app.loader.import_default_modules()
    own = {name for name in app.tasks if not name.startswith(("celery.", "tests."))}

    assert own == {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}


def test_a_task_that_waited_longer_than_its_interval_is_dropped():
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        interval_s = 3600 if isinstance(entry["schedule"], crontab) else entry["schedule"]
        assert 0 < entry["options"]["expires"] <= interval_s


def test_hourly_tasks_do_not_meet():
    minutes = [
        min(entry["schedule"].minute)
        for entry in settings.CELERY_BEAT_SCHEDULE.values()
        if isinstance(entry["schedule"], crontab)
    ]

    assert len(set(minutes)) == len(minutes)


def test_tasks_are_given_again_when_their_worker_dies():
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert not app.conf.task_always_eager
    assert app.conf.task_time_limit < app.conf.broker_transport_options["visibility_timeout"]
