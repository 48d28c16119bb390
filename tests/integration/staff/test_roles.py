"""Who may open what: every page and table of the staff's site, every action, for each role."""

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.orders.staff.order_actions import order_actions
from apps.users.services.staff import Role, permissions_of, sync_roles
from config.admin_site import STAFF_PAGES
from tests.factories.orders import make_buyer, make_sku, placed_order
from tests.factories.promotions import make_sale
from tests.factories.staff import half_logged_in, logged_in, make_role, make_superuser

pytestmark = [
    pytest.mark.django_db(databases=list(settings.DATABASES)),
    pytest.mark.usefixtures("staff_site"),
]
EVERYBODY = {"step-up", "saved-views"}


def known_permissions() -> set[str]:
    rows = Permission.objects.select_related("content_type")
    return {f"{row.content_type.app_label}.{row.codename}" for row in rows}


def arguments(order, sale) -> dict[str, object]:
    return {
        "order_id": order.id,
        "user_id": order.user_id,
        "sale_id": sale.id,
        "queue_name": "callbacks",
        "export_id": 1,
        "job_id": 1,
        "n": 1,
        "action_name": "cancel",
    }


def path_of(page, values) -> str:
    names = [name for name in values if f":{name}>" in page.address]
    return reverse(f"admin:{page.name}", kwargs={name: values[name] for name in names})


def test_every_page_names_its_permission_and_every_permission_exists():
    known = known_permissions()
    for page in STAFF_PAGES:
        assert page.permissions or page.name in EVERYBODY, page.name
        assert set(page.permissions) <= known, page.name
    assert {action.permission for action in order_actions()} <= known
    for patterns in settings.STAFF_ROLES.values():
        assert all("*" in pattern or pattern in known for pattern in patterns), patterns


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_its_pages_and_gets_403_from_all_others(role):
    # given an order and a sale
    order, sale = placed_order(make_buyer(), [(make_sku(), 1)]), make_sale()
    values = arguments(order, sale)
    client, granted = logged_in(make_role(role)), permissions_of(role, known_permissions())

    # then the answer to each address depends on the permissions alone, whatever the method
    for page in STAFF_PAGES:
        is_allowed = not page.permissions or any(permission in granted for permission in page.permissions)
        if page.name in ("orders-act", "customers-act"):
            continue
        answer = client.get(path_of(page, values))
        assert (answer.status_code != 403) == is_allowed, page.name
        assert answer.status_code < 500, page.name
        if not is_allowed:
            assert client.post(path_of(page, values)).status_code == 403, page.name

    # and so it is with the tables
    for model, model_admin in admin.site._registry.items():
        label, name = model._meta.app_label, model._meta.model_name
        answer = client.get(reverse(f"admin:{label}_{name}_changelist"))
        may_see = {f"{label}.{verb}_{name}" for verb in ("view", "change")} & granted
        assert (answer.status_code == 200) == bool(may_see), model
        assert model_admin


@pytest.mark.parametrize("role", list(Role))
def test_an_order_s_page_shows_the_actions_of_the_role_and_no_other(role):
    order = placed_order(make_buyer(), [(make_sku(), 1)])
    client, granted = logged_in(make_role(role)), permissions_of(role, known_permissions())
    answer = client.get(f"/admin/orders/{order.id}/")
    if "orders.view_order" not in granted:
        assert answer.status_code == 403
    shown = answer.content.decode()
    for action in order_actions():
        path = f"/admin/orders/{order.id}/do/{action.name}/"
        may_do = action.permission in granted and "orders.view_order" in granted
        assert (path in shown) == (may_do and action.name != "release"), action.name
        assert (client.get(path).status_code != 403) == may_do, action.name
        assert (client.post(path, {"reason": "x"}).status_code != 403) == may_do, action.name
    assert (f"/admin/orders/{order.id}/person/" in shown) == ("orders.unmask_person" in granted)


@pytest.mark.parametrize("role", list(Role))
def test_the_menu_has_the_pages_of_the_role_and_no_other(role):
    client, granted = logged_in(make_role(role)), permissions_of(role, known_permissions())
    shown = client.get("/admin/").content.decode()
    for page in STAFF_PAGES:
        if page.menu is not None:
            is_allowed = any(permission in granted for permission in page.permissions)
            assert (f'href="{reverse(f"admin:{page.name}")}"' in shown) == is_allowed, page.name


def test_nobody_gets_in_anywhere_without_a_second_factor():
    order, sale = placed_order(make_buyer(), [(make_sku(), 1)]), make_sale()
    client = half_logged_in(make_superuser())
    for page in STAFF_PAGES:
        answer = client.get(path_of(page, arguments(order, sale)))
        assert answer.status_code == 302
        assert "login" in answer.headers["Location"]


def test_a_role_that_is_cut_back_loses_what_it_had(settings):
    user = make_role(Role.WAREHOUSE)
    client = logged_in(user)
    assert client.get("/admin/orders/").status_code == 200
    settings.STAFF_ROLES = {**settings.STAFF_ROLES, "warehouse": ("catalog.view_*",)}
    sync_roles()
    assert client.get("/admin/orders/").status_code == 403
