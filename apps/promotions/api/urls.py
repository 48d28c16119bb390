"""Addresses of flash sales, coupons and points, below /api/v1/; buying is at `apps.orders.api.urls`."""

from django.urls import path

from apps.promotions.api import coupons, points, views

urlpatterns = [
    path("flash-sales", views.FlashSaleList.as_view()),
    path("flash-sales/<str:sale_id>", views.FlashSaleDetail.as_view()),
    path("flash-sales/<str:sale_id>/entry", views.FlashSaleEntry.as_view()),
    path("coupons", coupons.CouponListView.as_view()),
    path("coupons/<str:template_id>/claim", coupons.ClaimCouponView.as_view()),
    path("users/me/coupons", coupons.OwnCouponsView.as_view()),
    path("users/me/points", points.PointsEndpoint.as_view()),
    path("users/me/points/ledger", points.LedgerEndpoint.as_view()),
]
