"""Addresses of flash sales, below /api/v1/; buying is at `apps.orders.api.urls`."""

from django.urls import path

from apps.promotions.api import views

urlpatterns = [
    path("flash-sales", views.FlashSaleList.as_view()),
    path("flash-sales/<str:sale_id>", views.FlashSaleDetail.as_view()),
    path("flash-sales/<str:sale_id>/entry", views.FlashSaleEntry.as_view()),
]
