"""The project: settings, URLs, WSGI and Celery entry points."""
