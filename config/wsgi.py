"""WSGI entry point of the public API."""

import os

from django.core.wsgi import get_wsgi_application

from infra.sharding.background import start_all

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
# gunicorn loads this module in each worker, after its fork.
start_all()
