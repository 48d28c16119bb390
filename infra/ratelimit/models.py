"""Limits of single routes, which the staff set."""

from django.core.validators import MinValueValidator
from django.db import models

from infra.sharding.fields import AsciiField


class RouteLimit(models.Model):
    """How often one route may be asked for by everybody together."""

    route = AsciiField(max_length=200, primary_key=True)
    per_second = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    burst = models.PositiveIntegerField(validators=[MinValueValidator(1)])

    class Meta:
        db_table = "ratelimit_route"
        ordering = ["route"]
        constraints = [
            models.CheckConstraint(condition=models.Q(per_second__gte=1, burst__gte=1), name="ratelimit_route_positive")
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.per_second}/s"
