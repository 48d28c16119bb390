"""How long a session of the staff lasts, and how fresh its second factor is.

Two clocks, both kept in the session: since the login (absolute) and since the last request (idle). What needs a second
factor that was shown just now (`needs_step_up`) sends to the page that asks for it and comes back.
"""

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

_BEGUN: Final = "staff_begun_at"
_SEEN: Final = "staff_seen_at"
_PROVED: Final = "staff_proved_at"
# The last request is noted no more often than this: each note is a write.
_SEEN_STEP_S: Final = 20


class StaffSessionMiddleware:
    """Ends sessions that are too old or were left alone; stands behind the one that knows the second factor."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, or send to the login."""
        user = request.user
        if user.is_authenticated and getattr(user, "is_verified", _never)():  # given by OTPMiddleware
            now = time.time()
            if _is_over(request, now):
                logout(request)
                messages.warning(request, _("Your session has ended. Log in again."))
                return redirect(f"{reverse('admin:login')}?{urlencode({'next': request.get_full_path()})}")
            _note(request, now)
        return self._get_response(request)


def _never() -> bool:
    return False


def needs_step_up(request: HttpRequest) -> bool:
    """Whether the second factor was shown too long ago for what is dangerous."""
    return time.time() - float(request.session.get(_PROVED, 0)) > settings.STAFF_STEP_UP_S


def note_proof(request: HttpRequest) -> None:
    """Note that the second factor has just been shown."""
    request.session[_PROVED] = time.time()


def to_step_up(back_to: str) -> HttpResponse:
    """Send to the page that asks for the second factor, and from there back."""
    return redirect(f"{reverse('admin:step-up')}?{urlencode({'next': back_to})}")


def _is_over(request: HttpRequest, now: float) -> bool:
    begun, seen = request.session.get(_BEGUN), request.session.get(_SEEN)
    if begun is None or seen is None:
        return False
    return bool(now - begun > settings.STAFF_SESSION_LIFETIME_S or now - seen > settings.STAFF_SESSION_IDLE_S)


def _note(request: HttpRequest, now: float) -> None:
    if _BEGUN not in request.session:
        request.session[_BEGUN] = request.session[_PROVED] = now
    if now - request.session.get(_SEEN, 0) > _SEEN_STEP_S:
        request.session[_SEEN] = now
