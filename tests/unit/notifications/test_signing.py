"""Signatures of webhooks, against the specification's vector, and the documentation's own example."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings as project
from standardwebhooks import Webhook, WebhookVerificationError

from apps.notifications.services.sending import signed_headers

# From the tests of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = datetime.fromtimestamp(1614265330, tz=UTC)
BODY = '{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER_SECRET = "whsec_" + "QUJD" * 8


def test_the_specifications_vector():
    headers = signed_headers((SECRET,), event_id=EVENT_ID, body=BODY, now=AT)
    assert headers["webhook-id"] == EVENT_ID
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == SIGNATURE


def test_each_of_two_active_secrets_verifies_and_no_other_does():
    headers = signed_headers((SECRET, OTHER_SECRET), event_id=EVENT_ID, body=BODY, now=datetime.now(UTC))
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "WFla" * 8).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + " ", headers)


@pytest.fixture(scope="module")
def documented():
    """The function that docs/webhooks.md shows, as a reader would copy it."""
    page = (Path(project.BASE_DIR) / "docs" / "webhooks.md").read_text()
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def verify" in block]
    namespace: dict = {}
    exec(code, namespace)
    return namespace["verify"], page


def test_the_documented_example_verifies_the_vector_and_both_secrets(documented):
    verify, page = documented
    for part in (SECRET, EVENT_ID, "1614265330", BODY, SIGNATURE):
        assert part in page
    headers = signed_headers((OTHER_SECRET, SECRET), event_id=EVENT_ID, body=BODY, now=AT)
    assert verify(BODY.encode(), headers, [SECRET], now=1614265330)
    assert verify(BODY.encode(), headers, ["whsec_" + "WFla" * 8, OTHER_SECRET], now=1614265330)


def test_the_documented_example_refuses_what_it_should(documented):
    verify, _ = documented
    good = signed_headers((SECRET,), event_id=EVENT_ID, body=BODY, now=AT)
    assert not verify(b'{"test": 1}', good, [SECRET], now=1614265330)
    assert not verify(BODY.encode(), good, [OTHER_SECRET], now=1614265330)
    assert not verify(BODY.encode(), good, [SECRET], now=1614265330 + 301)
    assert not verify(BODY.encode(), good, [SECRET], now=1614265330 - 301)
    assert not verify(BODY.encode(), {**good, "webhook-timestamp": "x"}, [SECRET], now=1614265330)
    assert not verify(BODY.encode(), {**good, "webhook-id": "other"}, [SECRET], now=1614265330)
    assert not verify(BODY.encode(), {}, [SECRET], now=1614265330)
    assert not verify(BODY.encode(), {**good, "webhook-signature": "v1a,abc v1"}, [SECRET], now=1614265330)
