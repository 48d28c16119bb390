"""Telling other systems what happens to orders: a log of events that is polled, and webhooks."""
