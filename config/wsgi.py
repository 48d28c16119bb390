"""WSGI entry point of the public API."""

import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from infra.sharding.background import start_all

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
_django = get_wsgi_application()

from config.lane import LaneApplication

application = LaneApplication(_django)
# Every view is imported now, lest a worker's first requests stand still for it, and all that share its event loop.
get_resolver().url_patterns  # noqa: B018
# gunicorn loads this module in each worker, after its fork.
start_all()
