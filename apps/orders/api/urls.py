"""Addresses of orders, below /api/v1/."""

from django.urls import path

from apps.orders.api import views

urlpatterns = [
    path("orders", views.OrdersView.as_view()),
    path("orders/search", views.OrderSearchView.as_view()),
    path("orders/<str:order_id>", views.OrderView.as_view()),
    path("orders/<str:order_id>/events", views.OrderEventsView.as_view()),
    path("orders/<str:order_id>/cancel", views.CancelOrderView.as_view()),
]
