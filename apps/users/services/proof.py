"""Proving oneself anew for what a stolen session must not do: by the current password, or by a fresh code."""

from datetime import datetime

from apps.users.errors import CredentialsInvalid, TooManyCodes
from apps.users.models import CodePurpose, Customer
from apps.users.passwords import is_password
from apps.users.selectors import get_customer, verified_logins
from apps.users.services.codes import prove_code, send_code, use_code
from apps.users.slowdown import login_slowdown
from apps.users.types import LoginKind, Proof
from infra.errors import InvalidState


def request_confirmation(*, user_id: int, to: LoginKind, address: str, now: datetime) -> None:
    """Send a code to the shopper's own proven e-mail address or phone, which confirms one change.

    Raises InvalidState where there is no such login, TooManyCodes when it or the client's `address` had too many.
    """
    login = next((login for login in verified_logins(get_customer(user_id)) if login.kind is to), None)
    if login is None:
        raise InvalidState(f"This account has no proven {to}.")
    if not send_code(login, CodePurpose.CONFIRM, address=address, now=now):
        raise TooManyCodes("Too many codes were asked for. The last one is good as long as it lives.", retry_after_s=60)


def check_proof(*, user_id: int, proof: Proof, address: str, now: datetime) -> Customer:
    """Return the customer who has proven themselves; the code, if it was one, is used up.

    Raises CredentialsInvalid, TooManyFailures, Overloaded. Takes long, and asks Redis: call it outside transactions.
    """
    with login_slowdown().attempt(f"{user_id}:{address}", now=now):
        customer = get_customer(user_id)
        if proof.code is not None:
            logins = [login for login in verified_logins(customer) if login.kind is not LoginKind.USERNAME]
            use_code(prove_code(logins, CodePurpose.CONFIRM, proof.code, now=now), now=now)
        elif not is_password(proof.password or "", customer.password):
            raise CredentialsInvalid("The current password is wrong.")
    return customer
