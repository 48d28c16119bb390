"""Claiming coupons over two databases: limits, keys, what a crash leaves behind, and the endpoints."""

import json
from datetime import timedelta
from secrets import token_hex

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone

from apps.promotions.api.coupons import ClaimableCouponSerializer, HeldCouponSerializer
from apps.promotions.domain import CouponKind
from apps.promotions.errors import CouponExhausted, CouponNotClaimable, CouponNotFound, TemplateRefused
from apps.promotions.models import CouponClaimState, HeldCouponState
from apps.promotions.selectors import forget_cached_templates
from apps.promotions.services import change_template, coupon_claims, grant_coupon, grant_coupons, settle_claims
from apps.users.services import make_bench_shoppers
from infra.errors import LimitReached, OutcomeUnknown, Overloaded
from infra.idempotency.errors import RequestInProgress
from infra.sharding.ids import slot_of
from infra.sharding.slots import slot_of_user
from tests.factories.coupons import claim, claim_key, claimed_count, claims_of, coupon_row, make_template
from tests.factories.orders import make_buyer

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def look_again() -> None:
    forget_cached_templates()


@pytest.fixture
def impatient(settings) -> None:
    """Let a repeat not wait for an attempt that will not end within the test."""
    settings.ORDER_REPEAT_WAIT_S = 0.1


@pytest.mark.parametrize("shard", [0, 1])
def test_a_claimed_coupon_is_counted_and_held_on_its_users_shard(shard):
    buyer, template = make_buyer(shard=shard), make_template(total_limit=5, valid_days=2, lasts_s=10**7)
    now = timezone.now()

    coupon_id = claim(buyer.user_id, template, now=now)

    row = coupon_row(buyer.user_id, coupon_id)
    assert slot_of(coupon_id) == slot_of_user(buyer.user_id)
    assert (row.template_id, row.state, row.order_id) == (template.id, HeldCouponState.HELD, None)
    assert row.expires_at == now + timedelta(days=2)
    assert claimed_count(template) == 1
    [claim_row] = claims_of(template)
    assert (claim_row.id, claim_row.state, claim_row.n) == (coupon_id, CouponClaimState.DONE, 1)


def test_nobody_gets_more_than_the_limit_of_a_shopper():
    buyer, template = make_buyer(), make_template(per_user_limit=2)
    first = [claim(buyer.user_id, template) for _ in range(2)]

    with pytest.raises(LimitReached):
        claim(buyer.user_id, template)

    assert len(set(first)) == 2
    assert claimed_count(template) == 2
    claim(make_buyer().user_id, template)


def test_the_last_coupon_is_the_last():
    template = make_template(total_limit=1)
    claim(make_buyer().user_id, template)

    with pytest.raises(CouponExhausted):
        claim(make_buyer().user_id, template)

    assert claimed_count(template) == 1


@pytest.mark.parametrize("times", [{"starts_in_s": 60.0}, {"starts_in_s": -60.0, "lasts_s": 60.5}])
def test_a_coupon_is_claimed_in_its_time_only(times):
    template = make_template(**times)
    now = timezone.now() + timedelta(seconds=1)

    with pytest.raises(CouponNotClaimable):
        claim(make_buyer().user_id, template, now=now)

    assert claims_of(template) == []


def test_what_is_not_listed_is_given_by_the_staff_only():
    buyer, template = make_buyer(), make_template(is_listed=False, total_limit=1)
    with pytest.raises(CouponNotFound):
        claim(buyer.user_id, template)

    coupon_id = grant_coupon(
        user_id=buyer.user_id, template_id=template.id, by="ada", reason="a broken lamp", now=timezone.now()
    )

    assert coupon_row(buyer.user_id, coupon_id).state == HeldCouponState.HELD
    [row] = claims_of(template)
    assert (row.granted_by, row.reason) == ("ada", "a broken lamp")


def test_coupons_are_granted_to_many_users_at_once_within_both_limits():
    people = [make_buyer(shard=number % 2) for number in range(6)]
    template = make_template(is_listed=False, total_limit=8, per_user_limit=2)
    users = [buyer.user_id for buyer in people]

    coupons = grant_coupons(
        user_ids=[*users, users[0]], template_id=template.id, by="ada", reason="", now=timezone.now()
    )

    held = [coupon_row(user_id, coupon) for user_id, coupon in zip([*users, users[0]], coupons, strict=True)]
    assert [row.state for row in held] == [HeldCouponState.HELD] * 7
    assert {claim.state for claim in claims_of(template)} == {CouponClaimState.DONE}
    with pytest.raises(LimitReached):
        grant_coupons(user_ids=[users[0]], template_id=template.id, by="ada", reason="", now=timezone.now())
    with pytest.raises(CouponExhausted):
        grant_coupons(user_ids=users[2::2], template_id=template.id, by="ada", reason="", now=timezone.now())
    assert claimed_count(template) == len(claims_of(template)) == 7


def test_a_batch_of_grants_that_fails_is_taken_back_whole(monkeypatch):
    people, template = [make_buyer(shard=0) for _ in range(3)], make_template(total_limit=3)
    with monkeypatch.context() as away:
        away.setattr(coupon_claims, "_hold", lambda *args, **kwargs: (_ for _ in ()).throw(OperationalError(2006, "")))
        with pytest.raises(OperationalError):
            grant_coupons(
                user_ids=[buyer.user_id for buyer in people],
                template_id=template.id,
                by="ada",
                reason="",
                now=timezone.now(),
            )

    assert (claimed_count(template), claims_of(template)) == (0, [])


def test_a_key_claims_once():
    buyer, template = make_buyer(), make_template(per_user_limit=1)
    key = claim_key(buyer.user_id, template)
    coupon_id = claim(buyer.user_id, template, key=key)

    again = coupon_claims.claim_coupon(user_id=buyer.user_id, template_id=template.id, key=key, now=timezone.now())

    assert (again.coupon_id, again.replayed) == (coupon_id, True)
    assert claimed_count(template) == 1


def test_a_repeat_hears_no_verdict_while_the_first_attempt_may_still_run(monkeypatch, impatient):
    buyer, template = make_buyer(), make_template(total_limit=1)
    key = claim_key(buyer.user_id, template)
    with monkeypatch.context() as killed:
        killed.setattr(coupon_claims, "_hold", lambda *args, **kwargs: (_ for _ in ()).throw(OutcomeUnknown("")))
        with pytest.raises(OutcomeUnknown):
            claim(buyer.user_id, template, key=key)

    with pytest.raises(RequestInProgress):
        claim(buyer.user_id, template, key=key)
    settle_claims(now=timezone.now() + timedelta(minutes=1))

    assert claim(buyer.user_id, template, key=key) != 0
    assert claimed_count(template) == 1


def test_a_claim_whose_shard_is_away_is_taken_back_at_once(monkeypatch):
    buyer, template = make_buyer(), make_template(total_limit=1)
    with monkeypatch.context() as away:
        away.setattr(coupon_claims, "_hold", lambda *args, **kwargs: (_ for _ in ()).throw(OperationalError(2006, "")))
        with pytest.raises(OperationalError):
            claim(buyer.user_id, template)

    assert (claimed_count(template), claims_of(template)) == (0, [])
    claim(buyer.user_id, template)


def left_half_done(monkeypatch, buyer, template, *, is_written: bool) -> int:
    """Leave a claim as a process does that is killed before or after the coupon's commit."""
    with monkeypatch.context() as killed:
        if is_written:
            killed.setattr(coupon_claims, "finish_claims", lambda claims: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                claim(buyer.user_id, template)
        else:
            killed.setattr(coupon_claims, "_hold", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
            killed.setattr(coupon_claims, "take_back", lambda claim: None)
            with pytest.raises(KeyboardInterrupt):
                claim(buyer.user_id, template)
    [row] = claims_of(template)
    assert row.state == CouponClaimState.PENDING
    return row.id


def test_a_claim_whose_coupon_was_written_is_finished(monkeypatch):
    buyer, template = make_buyer(), make_template(total_limit=1)
    coupon_id = left_half_done(monkeypatch, buyer, template, is_written=True)

    settle_claims(now=timezone.now() + timedelta(minutes=1))

    [row] = claims_of(template)
    assert (row.id, row.state) == (coupon_id, CouponClaimState.DONE)
    assert coupon_row(buyer.user_id, coupon_id).state == HeldCouponState.HELD
    assert claimed_count(template) == 1


def test_a_claim_without_a_coupon_is_taken_back_behind_a_tombstone(monkeypatch):
    buyer, template = make_buyer(), make_template(total_limit=1)
    coupon_id = left_half_done(monkeypatch, buyer, template, is_written=False)

    settle_claims(now=timezone.now() + timedelta(minutes=1))
    settle_claims(now=timezone.now() + timedelta(minutes=1))

    assert (claimed_count(template), claims_of(template)) == (0, [])
    assert coupon_row(buyer.user_id, coupon_id).state == HeldCouponState.VOID
    assert claim(buyer.user_id, template) != coupon_id


def test_a_writer_that_was_only_stopped_fails_on_the_tombstone(monkeypatch):
    buyer, template = make_buyer(), make_template(total_limit=1)
    hold = coupon_claims._hold

    def stopped(*args, **kwargs):
        settle_claims(now=timezone.now() + timedelta(minutes=1))
        hold(*args, **kwargs)

    with monkeypatch.context() as slow:
        slow.setattr(coupon_claims, "_hold", stopped)
        with pytest.raises(Overloaded):
            claim(buyer.user_id, template)

    assert (claimed_count(template), claims_of(template)) == (0, [])


def test_without_the_tombstone_a_stopped_writer_would_hold_a_coupon_that_nobody_counts(monkeypatch):
    buyer, template = make_buyer(), make_template(total_limit=1)
    hold = coupon_claims._hold

    def stopped(*args, **kwargs):
        settle_claims(now=timezone.now() + timedelta(minutes=1))
        hold(*args, **kwargs)

    monkeypatch.setattr(coupon_claims, "_hold", stopped)
    monkeypatch.setattr(coupon_claims, "insert_tombstone", lambda place, claim, *, now: True)
    coupon_id = claim(buyer.user_id, template)

    assert coupon_row(buyer.user_id, coupon_id).state == HeldCouponState.HELD
    assert (claimed_count(template), claims_of(template)) == (0, [])


def test_terms_are_fixed_and_bounds_can_be_moved():
    template = make_template(total_limit=5)
    for _ in range(2):
        claim(make_buyer().user_id, template)

    with pytest.raises(TemplateRefused, match="2 have been claimed"):
        change_template(template.id, {"total_limit": 1}, by="ada", reason="", now=timezone.now())
    with pytest.raises(ValueError, match="amount"):
        change_template(template.id, {"amount": 1}, by="ada", reason="", now=timezone.now())
    changed = change_template(template.id, {"total_limit": 2}, by="ada", reason="enough", now=timezone.now())

    assert changed.left == 0
    with pytest.raises(CouponExhausted):
        claim(make_buyer().user_id, template)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"kind": CouponKind.PERCENT, "percent": "101"}, "percent"),
        ({"kind": CouponKind.FREE_SHIPPING, "amount": "1"}, "amount"),
        ({"currency": "JPY"}, "currency"),
        ({"per_user_limit": 0}, "per_user_limit"),
        ({"total_limit": 0}, "total_limit"),
        ({"name": " "}, "name"),
        ({"lasts_s": 0.0}, "ends_at"),
        ({"skus": [f"S{number}" for number in range(501)]}, "skus"),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(changes, field):
    with pytest.raises(TemplateRefused) as refused:
        make_template(**changes)
    assert field in refused.value.problems


# -- the endpoints ----------------------------------------------------------------------------------------------------


class Shop:
    """A shopper's client."""

    def __init__(self, shopper) -> None:
        self.user_id = shopper.user_id
        self._client = Client(raise_request_exception=False)
        self._token = {"Authorization": f"Bearer {shopper.access}"}

    def claim(self, template_id, body=None, **headers):
        return self._client.post(
            f"/api/v1/coupons/{template_id}/claim",
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers=self._token | headers,
        )

    def own(self, **query):
        return self._client.get("/api/v1/users/me/coupons", query, headers=self._token)


@pytest.fixture
def shop():
    [shopper] = make_bench_shoppers(1)
    return Shop(shopper)


def listed(**query):
    return Client().get("/api/v1/coupons", query)


def test_what_can_be_claimed_is_listed_for_everybody():
    template = make_template(
        CouponKind.PERCENT,
        percent="12.5",
        max_discount="3",
        threshold="10",
        skus=["B", "A"],
        products=[7],
        stackable=True,
        total_limit=9,
    )
    for hidden in ({"is_listed": False}, {"starts_in_s": 60.0}, {"total_limit": 1, "name": "Gone"}):
        other = make_template(**hidden)
        if other.name == "Gone":
            claim(make_buyer().user_id, other)
    forget_cached_templates()

    results = {entry["id"]: entry for entry in listed(limit=100).json()["results"]}

    shown = results[str(template.id)]
    assert set(shown) == set(ClaimableCouponSerializer().fields)
    assert (shown["kind"], shown["percent"], shown["amount"], shown["max_discount"]) == (
        "percent",
        "12.50",
        None,
        "3.00",
    )
    assert shown["scope"] == {"categories": [], "products": ["7"], "skus": ["A", "B"]}
    assert (shown["stackable"], shown["threshold"], shown["left"]) == (True, "10.00", 9)
    assert not {str(each) for each in results} & {"Gone"}
    assert all(entry["name"] != "Gone" for entry in results.values())


def test_the_list_of_claimable_coupons_has_pages():
    made = [make_template() for _ in range(3)]
    forget_cached_templates()
    seen, cursor = [], None
    for _ in range(200):
        page = listed(limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [entry["id"] for entry in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert {str(template.id) for template in made} <= set(seen)
    assert seen == sorted(set(seen), key=int, reverse=True)
    assert listed(cursor="x").status_code == 400


def test_a_shopper_claims_and_sees_the_coupon(shop):
    template = make_template(per_user_limit=2)

    first = shop.claim(template.id)
    second = shop.claim(template.id, {})
    third = shop.claim(template.id)

    assert (first.status_code, set(first.json())) == (201, {"coupon_id"})
    assert (third.status_code, third.json()["code"]) == (409, "limit_reached")
    page = shop.own(limit=1).json()
    [newest] = page["results"]
    assert set(newest) == set(HeldCouponSerializer().fields)
    assert (newest["coupon_id"], newest["state"], newest["order_id"]) == (second.json()["coupon_id"], "held", None)
    assert newest["template_id"] == str(template.id)
    rest = shop.own(limit=1, cursor=page["next"]).json()
    assert [entry["coupon_id"] for entry in rest["results"]] == [first.json()["coupon_id"]]
    assert rest["next"] is None


def test_the_endpoint_repeats_its_first_answer_for_a_key(shop):
    template = make_template(total_limit=1)
    key = {"Idempotency-Key": token_hex(8)}

    first, again = shop.claim(template.id, **key), shop.claim(template.id, **key)
    late = shop.claim(template.id)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (first.get("Idempotency-Replayed"), again["Idempotency-Replayed"]) == (None, "true")
    assert (late.status_code, late.json()["code"]) == (409, "limit_reached")


def test_what_cannot_be_claimed_is_told(shop):
    exhausted = make_template(total_limit=1)
    claim(make_buyer().user_id, exhausted)

    answers = [
        shop.claim(exhausted.id),
        shop.claim(1),
        shop.claim("x"),
        shop.claim(make_template(is_listed=False).id),
        shop.claim(make_template(starts_in_s=60.0).id),
        shop.claim(exhausted.id, {"n": 1}),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (409, "coupon_exhausted"),
        (404, "not_found"),
        (404, "not_found"),
        (404, "not_found"),
        (409, "invalid_state"),
        (400, "validation_error"),
    ]
    assert Client().post("/api/v1/coupons/1/claim", content_type="application/json").status_code == 401


def test_an_expired_coupon_is_shown_as_such(shop):
    template = make_template()
    coupon_id = int(shop.claim(template.id).json()["coupon_id"])
    row = coupon_row(shop.user_id, coupon_id)
    with connections[row._state.db].cursor() as cursor:
        cursor.execute("UPDATE promotions_coupon SET expires_at = '2020-01-01' WHERE id = %s", [coupon_id])

    [shown] = shop.own().json()["results"]

    assert shown["state"] == "expired"
