"""Addresses of orders, below /api/v1/."""

from django.urls import path

from apps.orders.api import flash, payments, quoting, returns, shipping, views

urlpatterns = [
    path("orders", views.OrdersView.as_view()),
    path("orders/search", views.OrderSearchView.as_view()),
    path("orders/quote", quoting.QuoteView.as_view()),
    path("orders/<str:order_id>", views.OrderView.as_view()),
    path("orders/<str:order_id>/events", views.OrderEventsView.as_view()),
    path("orders/<str:order_id>/cancel", views.CancelOrderView.as_view()),
    path("orders/<str:order_id>/payments", payments.PaymentsView.as_view()),
    path("orders/<str:order_id>/payments/<str:payment_id>", payments.OnePaymentView.as_view()),
    path("orders/<str:order_id>/refunds", payments.RefundsView.as_view()),
    path("orders/<str:order_id>/refunds/<str:refund_id>", payments.OneRefundView.as_view()),
    path("orders/<str:order_id>/shipments", shipping.ShipmentsView.as_view()),
    path("orders/<str:order_id>/confirm-receipt", shipping.ConfirmReceiptView.as_view()),
    path("orders/<str:order_id>/returns", returns.ReturnsView.as_view()),
    path("orders/<str:order_id>/returns/<str:return_id>", returns.OneReturnView.as_view()),
    path("flash-sales/<str:sale_id>/orders", flash.FlashOrdersView.as_view()),
    path("flash-sales/tickets/<str:ticket>", flash.FlashTicketView.as_view()),
    path("shipments/callbacks/<str:carrier>", shipping.TrackCallbackView.as_view()),
    path("payments/callbacks/<str:provider>", payments.CallbackView.as_view()),
]
