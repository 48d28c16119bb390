"""Writes of orders, by noun."""
