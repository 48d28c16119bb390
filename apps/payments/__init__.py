"""Payments: attempts to pay an order, refunds, and the providers that move the money."""
