"""The providers of this installation, by the name that clients and callback addresses use."""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from apps.payments.errors import ProviderUnavailable
from apps.payments.providers.base import Provider


@cache
def _build(name: str) -> Provider:
    options = dict(settings.PAYMENT_PROVIDERS[name])
    provider: Provider = import_string(str(options.pop("class")))(name=name, **options)
    return provider


def find_provider(name: str) -> Provider | None:
    """Return the provider of that name, or None; made once a process, on first use."""
    return _build(name) if name in settings.PAYMENT_PROVIDERS else None


def get_provider(name: str) -> Provider:
    """Return the provider of an attempt that exists. Raises ProviderUnavailable if it is not configured any more."""
    provider = find_provider(name)
    if provider is None:
        raise ProviderUnavailable(f"PAYMENT_PROVIDERS has no {name!r}, and there are attempts with it.")
    return provider


def provider_names() -> tuple[str, ...]:
    """Return the names that a client may choose from."""
    return tuple(settings.PAYMENT_PROVIDERS)
