"""Requests of other servers, signed with a key of theirs (docs/request-signing.md has the protocol)."""
