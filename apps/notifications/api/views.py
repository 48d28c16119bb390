"""GET /events: the log of events, for clients that poll."""

from typing import Final

import msgspec
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.notifications.api.authentication import (
    EventsTokenAuthentication,
    EventsTokenScheme,
    MayReadEvents,
    event_reader,
)
from apps.notifications.api.serializers import EventPageSerializer, EventsQuery
from apps.notifications.errors import PositionGone
from apps.notifications.selectors import events_after
from infra.api.pagination import CursorCodec
from infra.api.views import ApiView
from infra.errors import FieldError, ValidationFailed

# The schema generator finds an extension once its module is loaded.
SCHEMES: Final = (EventsTokenScheme,)


class EventsView(ApiView):
    """GET /events."""

    authentication_classes = [EventsTokenAuthentication]
    permission_classes = [MayReadEvents]

    @extend_schema(
        operation_id="events_list",
        summary="Read what has happened to orders, in an order in which nothing can be missed",
        parameters=[EventsQuery],
        responses={200: EventPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return the next events after a position."""
        query = EventsQuery.read(request.query_params)
        reader = event_reader(request)
        codec = CursorCodec(reader.subscription_id, request.path, parameter="after", expires=False)
        key = codec.decode(query.get("after"))
        try:
            page = events_after(
                {str(alias): int(position) for alias, position in zip(key[::2], key[1::2], strict=True)} if key else {},
                event_types=reader.event_types,
                limit=query["limit"],
            )
        except PositionGone as error:
            detail = "Events after this position are no longer kept. Begin again without `after`."
            raise ValidationFailed(
                "The position is too old.", errors=[FieldError("query:after", "position_gone", detail)]
            ) from error
        next_key: list[int | str] = [part for pair in sorted(page.positions.items()) for part in pair]
        return Response(
            {
                "results": [msgspec.json.decode(body) for body in page.bodies],
                "next": codec.encode(next_key),
                "more": page.more,
            }
        )
