"""Logs and metrics."""

from config import env

LOG_LEVEL = env.text("FLOODGATE_LOG_LEVEL", local="INFO") if not env.IS_PRODUCTION else env.text("FLOODGATE_LOG_LEVEL")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_scope": {"()": "infra.observability.logs.RequestScopeFilter"}},
    "formatters": {
        "json": {
            "()": "infra.observability.logs.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "filters": ["request_scope"],
        },
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING", "propagate": True},
        "django.request": {"handlers": [], "level": "CRITICAL", "propagate": True},
        # Several scans a second are no news; what fails is. A scan that waited too long is dropped by design.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.request": {"level": "WARNING"},
    },
}

PROMETHEUS_EXPORT_MIGRATIONS = False
# Gauges over the databases (depths, ages), read when the staff's /metrics is scraped.
METRIC_COLLECTORS: list[str] = ["apps.promotions.metrics.SaleAnswersCollector"]
