"""What GET /events takes and answers, as the schema tells it."""

from typing import Any

from rest_framework import serializers

from infra.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from infra.api.serializers import QuerySerializer


class EventsQuery(QuerySerializer):
    """From where to go on, and how many events at most."""

    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT, required=False)
    after = serializers.CharField(
        max_length=2000,
        required=False,
        allow_blank=False,
        help_text="The `next` of the page before; without it, from the oldest event that is kept.",
    )


class EventSerializer(serializers.Serializer[Any]):
    """An event, as webhooks carry it too."""

    id = serializers.CharField(help_text="The same in every delivery of the event.")
    type = serializers.CharField()
    timestamp = serializers.DateTimeField(help_text="When it happened.")
    aggregate = serializers.CharField()
    aggregate_id = serializers.CharField()
    version = serializers.IntegerField(
        min_value=1, help_text="The aggregate's version after it: grows by one with each event, without gaps."
    )
    schema_version = serializers.IntegerField(min_value=1)
    data = serializers.DictField()  # type: ignore[assignment]  # the contract's name


class EventPageSerializer(serializers.Serializer[Any]):
    """A page of events."""

    results = EventSerializer(many=True)
    next = serializers.CharField(
        help_text="To be sent as `after`; always set, and good for as long as events are kept."
    )
    more = serializers.BooleanField(help_text="Whether there are more events already; otherwise ask again in a while.")
