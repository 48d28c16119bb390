"""App configuration of the encryption at rest."""

from django.apps import AppConfig


class CryptoConfig(AppConfig):
    """Encrypted columns, blind indexes, rotation of their keys."""

    name = "infra.crypto"
    label = "crypto"
