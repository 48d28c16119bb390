"""The tiny site as gunicorn loads it; the databases come as JSON in the environment."""

import json
import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

settings.configure(
    DATABASES=json.loads(os.environ["FLOODGATE_TEST_DATABASES"]),
    USE_TZ=True,
    ROOT_URLCONF="tests.integration.mysql.urls",
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="only for tests",
)
django.setup()
application = WSGIHandler()
