"""A payment provider for development and tests: a bank in one small process of its own (docs/payments.md).

It knows nothing of Floodgate's code or databases, keeps its own durable state, and can be killed at any moment.
"""
