"""Requests to addresses that somebody outside has named (infra/outgoing)."""

from django.core.exceptions import ImproperlyConfigured

from config import env

# Networks that such requests may go to although they are not public: for tests and for trying webhooks locally.
OUTGOING_ALLOWED_NETWORKS = env.text_list("FLOODGATE_OUTGOING_ALLOWED_NETWORKS", default="")
if OUTGOING_ALLOWED_NETWORKS and env.IS_PRODUCTION:
    raise ImproperlyConfigured("FLOODGATE_OUTGOING_ALLOWED_NETWORKS opens the inner network; production refuses it.")
# Public networks that such requests must not go to: one's own machines, where they have public addresses.
OUTGOING_DENIED_NETWORKS = env.text_list("FLOODGATE_OUTGOING_DENIED_NETWORKS", default="")
# A file of certificate authorities instead of the machine's own; empty for those.
OUTGOING_CA_FILE = env.text("FLOODGATE_OUTGOING_CA_FILE", default="")
