"""What a Celery worker takes first when many tasks wait."""

import secrets

import pytest
from django.conf import settings

from config.celery import app

SWEEPS = ["orders.sync_stock", "orders.sweep_sales", "orders.expire_orders"]


@pytest.fixture
def broker():
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | {"global_keyprefix": f"test:{secrets.token_hex(6)}:"}
    with app.connection_for_write(transport_options=options) as connection:
        yield connection
        connection.default_channel.queue_purge(settings.CELERY_TASK_DEFAULT_QUEUE)


def order_taken(broker, tasks, **options):
    """Send tasks as beat does, and return the order in which a worker would take them."""
    app.loader.import_default_modules()
    for task in tasks:
        beat_options = settings.CELERY_BEAT_SCHEDULE[task]["options"]
        app.tasks[task].apply_async(producer=app.amqp.Producer(broker), **(beat_options | options))
    queue = broker.SimpleQueue(settings.CELERY_TASK_DEFAULT_QUEUE)
    taken = []
    for _ in tasks:
        message = queue.get(timeout=5)
        taken.append(message.headers["task"])
        message.ack()
    queue.close()
    return taken


def test_the_queues_of_a_sale_are_drained_before_the_sweeps_that_wait(broker):
    assert order_taken(broker, [*SWEEPS, "orders.drain_queues"]) == ["orders.drain_queues", *SWEEPS]


def test_negative_control_with_one_priority_the_drain_waits_for_all_sweeps(broker):
    assert order_taken(broker, [*SWEEPS, "orders.drain_queues"], priority=5) == [*SWEEPS, "orders.drain_queues"]
