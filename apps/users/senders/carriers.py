"""The sender of a real installation: e-mail by SMTP, text messages by the HTTP API of Twilio or one that speaks it."""

import smtplib
from typing import Final

import requests
from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from apps.users.senders.base import Notice, SendingFailed
from apps.users.types import LoginKind, LoginName
from infra.sharding.background import call_apart

_SMTP: Final = "django.core.mail.backends.smtp.EmailBackend"


class CarrierSender:
    """Hands each message to its carrier, once and within a time limit.

    Nothing is sent again: who gets no code asks for another one, and a carrier that answers late may have sent it.
    """

    def send_code(self, to: LoginName, code: str) -> None:
        """Send a code; raises SendingFailed."""
        minutes = settings.CODE_LIFETIME_S // 60
        text = f"{code} is your {settings.SHOP_NAME} code. It is good for {minutes} minutes. Tell it to nobody."
        self._send(to, subject=f"Your code for {settings.SHOP_NAME}", text=text)

    def send_notice(self, to: LoginName, notice: Notice) -> None:
        """Send a notice; raises SendingFailed."""
        self._send(to, subject=f"Your account at {settings.SHOP_NAME}", text=f"{settings.SHOP_NAME}: {notice}")

    def _send(self, to: LoginName, *, subject: str, text: str) -> None:
        """Send in a thread of its own: the limits of sockets hold for each wait, and a carrier may dribble."""
        if to.kind is LoginKind.USERNAME:
            raise ValueError("Nothing can be sent to a username.")
        try:
            if to.kind is LoginKind.EMAIL:
                call_apart(lambda: _send_mail(to.value, subject, text), timeout_s=settings.CARRIER_TIMEOUT_S)
            else:
                call_apart(lambda: _send_text(to.value, text), timeout_s=settings.CARRIER_TIMEOUT_S)
        except TimeoutError as error:
            raise SendingFailed("The carrier took too long.") from error


def _send_mail(address: str, subject: str, text: str) -> None:
    connection = get_connection(_SMTP, timeout=settings.CARRIER_TIMEOUT_S)
    message = EmailMessage(subject, text, to=[address], connection=connection)
    try:
        message.send()
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        raise SendingFailed(f"The mail server did not take the message: {type(error).__name__}.") from error


def _send_text(number: str, text: str) -> None:
    """Create a message by Twilio's API (https://www.twilio.com/docs/messaging/api/message-resource)."""
    try:
        answer = requests.post(
            f"{settings.SMS_URL}/2010-04-01/Accounts/{settings.SMS_ACCOUNT}/Messages.json",
            auth=(settings.SMS_ACCOUNT, settings.SMS_TOKEN),
            data={"To": number, "From": settings.SMS_FROM, "Body": text},
            timeout=settings.CARRIER_TIMEOUT_S,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise SendingFailed(f"The SMS carrier could not be reached: {type(error).__name__}.") from error
    if answer.status_code != 201:
        raise SendingFailed(f"The SMS carrier answered {answer.status_code}.")
