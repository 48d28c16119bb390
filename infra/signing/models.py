"""Clients that sign their requests, their keys, whom they act for, and the nonces that were used."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from infra.crypto.fields import EncryptedTextField
from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.placement import HOME

MAX_KEYS = 2


class ActsFor(models.TextChoices):
    """Whom a client may act for: nobody (then it reaches what needs no shopper), shoppers that are listed, anybody."""

    NOBODY = "nobody"
    LISTED = "listed"
    ANYBODY = "anybody"


class ApiClient(models.Model):
    """A server of somebody else's. `scopes` are separated by spaces, such as `orders:read orders:write`."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    name = models.CharField(max_length=100, unique=True)
    is_active = models.BooleanField(default=True)
    scopes = AsciiField(
        500, blank=True, default="", validators=[RegexValidator(r"^([a-z-]+:(read|write)( (?!$))?)*\Z")]
    )
    acts_for = AsciiField(8, choices=ActsFor.choices, default=ActsFor.NOBODY)
    per_second = models.PositiveIntegerField(
        default=50, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    burst = models.PositiveIntegerField(default=100, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "signing_client"
        ordering = ["name"]
        verbose_name = "API client"
        constraints = [
            models.CheckConstraint(condition=models.Q(per_second__gte=1, burst__gte=1), name="signing_client_positive")
        ]

    def __str__(self) -> str:
        return self.name


class ApiClientUser(models.Model):
    """A shopper that a client may act for."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    client = models.ForeignKey(ApiClient, on_delete=models.CASCADE, related_name="users")
    user_id = models.BigIntegerField(validators=[MinValueValidator(1)])

    class Meta:
        db_table = "signing_client_user"
        verbose_name = "shopper that the client acts for"
        verbose_name_plural = "shoppers that the client acts for"
        constraints = [models.UniqueConstraint(fields=["client", "user_id"], name="signing_client_user_once")]

    def __str__(self) -> str:
        return str(self.user_id)


class ApiClientKey(models.Model):
    """A key of a client. The good ones stand at position 1 and 2, which is unique: so a client never has a third."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    key_id = AsciiField(32, primary_key=True)
    client = models.ForeignKey(ApiClient, on_delete=models.CASCADE, related_name="keys")
    position = models.SmallIntegerField(null=True)
    secret = EncryptedTextField(default="")
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=150, default="")

    class Meta:
        db_table = "signing_key"
        verbose_name = "key"
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["client", "position"], name="signing_key_position"),
            models.CheckConstraint(condition=models.Q(position__in=[1, 2]), name="signing_key_two"),
        ]

    def __str__(self) -> str:
        return self.key_id


class SigningNonce(models.Model):
    """A nonce that was used under a key, until its time stamp is too old anyway."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    digest = DigestField(16, primary_key=True)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "signing_nonce"
        indexes = [models.Index(fields=["expires_at"], name="signing_nonce_expires")]

    def __str__(self) -> str:
        return f"used until {self.expires_at}"
