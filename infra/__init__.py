"""Mechanisms that know nothing of commerce."""
