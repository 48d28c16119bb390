"""Refuses what has waited so long in front of this process that nobody can be sure to hear the answer.

A proxy gives up after its own time, but what it had sent lies in the process's backlog and would still be served, in
the place of requests whose clients still wait.
"""

import time

from django.conf import settings

from infra.errors import Overloaded
from infra.ratelimit.metrics import REFUSALS


def check_wait(*, peer: str, started: str | None) -> None:
    """Let a request pass or raise Overloaded, with nothing taken.

    `started` is its header X-Request-Start: `t=` and the seconds since 1970 at which a proxy sent it on, as nginx's
    `$msec` has them. It is believed only of a listed proxy; one that is no number says nothing.
    """
    if started is None or peer not in settings.TRUSTED_PROXIES:
        return
    try:
        started_at = float(started.removeprefix("t="))
    except ValueError:
        return
    if time.time() - started_at > settings.REQUEST_WAIT_LIMIT_S:
        REFUSALS.labels("waited").inc()
        raise Overloaded("The request has waited too long. Nothing was taken.")
