"""WSGI entry point of the staff's site: admin, metrics and the detailed health check, on a port of its own."""

import os

# Set, not defaulted: the environment of the stack names the public settings.
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings_staff"

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
