"""The staff's pages of settings and route limits."""

import pytest
from django.conf import settings
from django.test import Client

from infra.dynamic.models import DynamicSetting
from infra.ratelimit.models import RouteLimit

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]

SETTINGS = "/admin/dynamic/dynamicsetting/"
ROUTES = "/admin/ratelimit/routelimit/"


def test_a_setting_is_set_changed_and_taken_back(staff: Client) -> None:
    name = "limits.user.per_second"
    answer = staff.post(SETTINGS + "add/", {"name": name, "value": " 75 ", "reason": "sale"})
    assert answer.status_code == 302
    row = DynamicSetting.objects.get(name=name)
    assert (row.value, row.reason, row.updated_by) == ("75", "sale", "mia")
    page = staff.get(SETTINGS).content.decode()
    assert "0 to 1000000" in page
    assert "Requests a second of one user" in page
    changed = staff.post(f"{SETTINGS}{name.replace('_', '_5F')}/change/", {"value": "80", "reason": ""})
    assert changed.status_code == 302
    assert DynamicSetting.objects.get(name=name).value == "80"
    staff.post(f"{SETTINGS}{name.replace('_', '_5F')}/delete/", {"post": "yes"})
    assert not DynamicSetting.objects.filter(name=name).exists()


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "1000001", "\u0667"])
def test_a_value_out_of_bounds_is_refused_with_what_is_allowed(staff: Client, value: str) -> None:
    answer = staff.post(SETTINGS + "add/", {"name": "limits.user.per_second", "value": value})
    assert answer.status_code == 200
    assert not DynamicSetting.objects.exists()
    if value:
        assert "whole number from 0 to 1000000" in answer.content.decode()


def test_a_setting_that_does_not_exist_cannot_be_set(staff: Client) -> None:
    assert staff.post(SETTINGS + "add/", {"name": "limits.moon", "value": "1"}).status_code == 200
    assert not DynamicSetting.objects.exists()


def test_a_route_is_chosen_from_those_that_there_are(staff: Client) -> None:
    assert "POST api/v1/orders" in staff.get(ROUTES + "add/").content.decode()
    answer = staff.post(ROUTES + "add/", {"route": "POST api/v1/orders", "per_second": "500", "burst": "900"})
    assert answer.status_code == 302
    assert RouteLimit.objects.get().per_second == 500
    for wrong in ({"route": "GET moon"}, {"per_second": "0"}, {"burst": "-1"}):
        staff.post(ROUTES + "add/", {"route": "GET api/v1/orders", "per_second": "5", "burst": "5", **wrong})
        assert RouteLimit.objects.count() == 1, wrong
