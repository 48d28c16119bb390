"""Runs one case of `cases.py` in this process, gevent-patched before anything else is imported if so asked."""

import os

if os.environ.get("FLOODGATE_TEST_GEVENT"):
    from gevent import monkey

    monkey.patch_all()

import json
import sys

import django
from django.conf import settings


def main() -> None:
    """Configure Django with the given databases alone, call the case, print what it returns as JSON."""
    settings.configure(
        DATABASES=json.loads(sys.argv[2]),
        USE_TZ=True,
        ROOT_URLCONF="tests.integration.mysql.urls",
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="only for tests",
    )
    django.setup()
    from tests.integration.mysql import cases  # noqa: PLC0415 - needs the settings

    print(json.dumps(getattr(cases, sys.argv[1])(), default=str), flush=True)
    sys.stdout.flush()
    os._exit(0)  # threads that still wait for a stopped server must not hold up the test


if __name__ == "__main__":
    main()
