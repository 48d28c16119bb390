"""Grant a customer points."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.promotions.points.services import grant_points, new_grant_id
from infra.api.fields import id_from_text
from infra.errors import DomainError


class Command(BaseCommand):
    """Grants once for each run, within the limits that hold for the staff."""

    help = "Grant a customer points, as goodwill; the last line is their balance then."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the customer, the points and the reason."""
        parser.add_argument("user_id", metavar="USER")
        parser.add_argument("points", type=int, metavar="POINTS")
        parser.add_argument("--reason", required=True, help="kept with the grant, at most 200 characters")

    def handle(self, *args: Any, user_id: str, points: int, reason: str, **options: Any) -> None:
        """Grant and print."""
        user = id_from_text(user_id)
        if user is None:
            raise CommandError(f"{user_id!r} is no user's id.")
        try:
            view = grant_points(
                user_id=user,
                grant_id=new_grant_id(user),
                points=points,
                actor="grant_points",
                reason=reason,
                now=timezone.now(),
            )
        except (DomainError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(str(view.balance))
