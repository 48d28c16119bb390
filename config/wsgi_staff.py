"""WSGI entry point of the staff's site: admin, metrics and the detailed health check, on a port of its own."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings_staff")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
