"""Idempotency for simple POST endpoints whose whole effect is one transaction on the shard of their user."""

import json
from typing import Any, ClassVar

from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from infra.idempotency.errors import KeyTaken, RequestInProgress
from infra.idempotency.keys import HEADER, REPLAYED_HEADER, read_key, request_key
from infra.idempotency.services import complete, find_answer, remember
from infra.idempotency.types import RequestKey, StoredAnswer
from infra.mysql.retry import is_lock_wait_timeout
from infra.sharding.places import Place, place_of_user


class IdempotentMixin:
    """Makes a view's POST idempotent; stands before `ApiView` in the bases.

    The view writes `post_once`. With a key, `post_once` runs in one transaction of the user's shard that has claimed
    the key first, so that a repeat waits for the first attempt and gets its answer instead of a verdict of its own.
    Only a success is remembered: a refusal rolls back, the key with it. `post_once` may write to no other database.
    """

    idempotency_required: ClassVar[bool] = False

    def post_once(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Do what the request asks; called at most once for each key that succeeds."""
        raise NotImplementedError

    def prepare(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Do what takes long or needs the network, before the transaction and only where no answer is known yet."""

    def key_body(self, request: Request) -> object:
        """Return what the key is bound to; a view whose body holds a secret gives something that does not tell it."""
        return request.data

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Serve the request, or give the first answer again."""
        text = read_key(request.headers.get(HEADER), required=self.idempotency_required)
        if text is None:
            self.prepare(request, *args, **kwargs)
            return self.post_once(request, *args, **kwargs)
        shopper: Any = request.user  # infra knows no users: the view's permission lets only shoppers come here
        key = request_key(
            user_id=shopper.user_id, method="POST", path=request.path, key=text, body=self.key_body(request)
        )
        place = place_of_user(key.user_id)
        answer = find_answer(place, key)
        if answer is None:
            self.prepare(request, *args, **kwargs)
            try:
                return self._post_first(place, key, request, *args, **kwargs)
            except KeyTaken:
                answer = find_answer(place, key)
        if answer is None:  # the attempt that had the key was rolled back between our two looks
            raise RequestInProgress("An earlier attempt has just ended. Repeat the request.")
        return _replayed(answer)

    def _post_first(self, place: Place, key: RequestKey, request: Request, *args: Any, **kwargs: Any) -> Response:
        with place.atomic():
            _claim(place, key)
            response = self.post_once(request, *args, **kwargs)
            complete(
                place,
                key,
                status=response.status_code,
                body=b"" if response.data is None else JSONRenderer().render(response.data),
                location=response.headers.get("Location", ""),
            )
        return response


def _claim(place: Place, key: RequestKey) -> None:
    try:
        remember(place, key, now=timezone.now())
    except Exception as error:
        if is_lock_wait_timeout(error):
            raise RequestInProgress("An earlier attempt with this key is still running.") from error
        raise


def _replayed(answer: StoredAnswer) -> Response:
    headers = {REPLAYED_HEADER: "true"}
    if answer.location:
        headers["Location"] = answer.location
    return Response(json.loads(answer.body) if answer.body else None, status=answer.status, headers=headers)
