"""A tiny site over the backend: what a web worker does with it, without the rest of the project."""

from collections.abc import Callable

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from infra.mysql.errors import CommitOutcomeUnknown, PoolExhausted, is_connection_lost


def _told(view: Callable[[HttpRequest, str], HttpResponse]) -> Callable[[HttpRequest, str], HttpResponse]:
    """Answer the backend's errors as the API does."""

    def answer(request: HttpRequest, alias: str) -> HttpResponse:
        try:
            return view(request, alias)
        except PoolExhausted:
            return HttpResponse("overloaded", status=503)
        except CommitOutcomeUnknown:
            return HttpResponse("outcome_unknown", status=503)
        except Exception as error:
            if is_connection_lost(error):
                return HttpResponse("shard_unavailable", status=503)
            raise

    return answer


def _static(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no database")


@_told
def _quick(request: HttpRequest, alias: str) -> HttpResponse:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


@_told
def _slow(request: HttpRequest, alias: str) -> HttpResponse:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT SLEEP(0.5)")
        cursor.fetchall()
    return HttpResponse("slept")


@_told
def _write(request: HttpRequest, alias: str) -> HttpResponse:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO notes VALUES (%s, 'written')", [request.GET["id"]])
    return HttpResponse("written")


urlpatterns = [
    path("static", _static),
    path("quick/<alias>", _quick),
    path("slow/<alias>", _slow),
    path("write/<alias>", _write),
]
