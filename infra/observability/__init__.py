"""Logs, metrics and request scope: what the people on call see."""
