"""A payment provider and a carrier for development and tests, in one process (docs/payments.md, docs/shipping.md).

It knows nothing of Floodgate's code or databases, keeps its own durable state, and can be killed at any moment.
"""
