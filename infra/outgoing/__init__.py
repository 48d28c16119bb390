"""Requests to addresses that somebody outside has named: only to public ones, over TLS, within a time limit."""
