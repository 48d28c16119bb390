"""Leases, the map and periodic work in a process whose threads gevent has patched, as in the web workers."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from django.db import connections

SCRIPT = textwrap.dedent(
    """
    from gevent import monkey
    monkey.patch_all()
    import json, sys
    import django
    django.setup()
    from django.conf import settings
    from django.db import connections
    for alias, name in json.loads(sys.argv[1]).items():
        connections.settings[alias]["NAME"] = name
    import gevent
    from infra.sharding import background, workers
    from infra.sharding.months import Month
    from infra.sharding.places import place_of_order

    background.start_all()
    made = []
    def request():
        user_id = workers.new_user_id()
        order_id = workers.new_order_id(user_id)
        with place_of_order(order_id).atomic():
            made.extend([user_id, order_id])
    gevent.joinall([gevent.spawn(request) for _ in range(50)], raise_error=True, timeout=20)
    assert len(set(made)) == 100, made
    holder = workers.process_lease()._lease
    deadline = gevent.get_hub().loop.now() + 8
    while not holder.was_renewed and gevent.get_hub().loop.now() < deadline:
        gevent.sleep(0.05)
    print(json.dumps({"number": holder.number, "renewed": holder.was_renewed}))
    """
)


@pytest.mark.usefixtures("committed")
def test_greenlets_share_a_lease_that_is_renewed_in_the_background_and_given_back_at_exit() -> None:
    names = {alias: connections[alias].settings_dict["NAME"] for alias in connections}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(names)],
        capture_output=True,
        text=True,
        timeout=40,
        env=dict(os.environ, DJANGO_SETTINGS_MODULE=os.environ["DJANGO_SETTINGS_MODULE"]),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["renewed"]
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT holder FROM sharding_worker WHERE number = %s", (told["number"],))
        assert cursor.fetchone() == ("",)
