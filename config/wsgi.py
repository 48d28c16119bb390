"""WSGI entry point of the public API."""

import logging
import os
from typing import Final

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from infra.sharding.background import start_all, wait_for_first_calls

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
_django = get_wsgi_application()

from config.lane import LaneApplication

application = LaneApplication(_django)
# Every view is imported now, lest a worker's first requests stand still for it, and all that share its event loop.
get_resolver().url_patterns  # noqa: B018
# gunicorn loads this module in each worker, after its fork, and lets the worker before it go once this one accepts: it
# shall have its worker number, the slot map and the settings by then. What is away must not keep it from starting.
_FIRST_CALLS_TIMEOUT_S: Final = 10.0
start_all()
if _missing := wait_for_first_calls(timeout_s=_FIRST_CALLS_TIMEOUT_S):
    logging.getLogger(__name__).warning("serving without %s for now", ", ".join(_missing))
