"""Tables of shoppers (on the shards), of the directory of their logins (`users`), and of the staff (`default`)."""

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models

from apps.users.types import LoginKind
from infra.crypto.fields import EncryptedJSONField, EncryptedTextField
from infra.sharding.fields import AsciiField, DigestField
from infra.sharding.models import ShardedModel
from infra.sharding.placement import HOME

DIRECTORY = "users"
"""The alias of the directory."""


class CustomerState(models.TextChoices):
    """REGISTERING: on the shard, and perhaps not yet in the directory. BLOCKED: by the staff. ERASED: for good."""

    REGISTERING = "registering"
    LIVE = "live"
    BLOCKED = "blocked"
    ERASED = "erased"


class Customer(ShardedModel):
    """A shopper, on the shard of their slot.

    The truth about logins: the directory can be built again from these rows. `version` counts the events of the
    customer aggregate; an imported customer begins at 0, with none. `first_order_month` and `last_order_month` (such
    as 202611) bound the walk over monthly tables; they are not part of the aggregate.
    """

    pk = models.CompositePrimaryKey("slot", "user_id")
    user_id = models.BigIntegerField()
    state = AsciiField(16, choices=CustomerState.choices, default=CustomerState.REGISTERING)
    version = models.IntegerField(default=0)
    password = AsciiField(160, default="")
    username = EncryptedTextField(default="")
    email = EncryptedTextField(default="")
    phone = EncryptedTextField(default="")
    email_verified_at = models.DateTimeField(null=True)
    phone_verified_at = models.DateTimeField(null=True)
    display_name = EncryptedTextField(default="")
    locale = AsciiField(16, default="en")
    time_zone = AsciiField(64, default="UTC")
    first_order_month = models.IntegerField(null=True)
    last_order_month = models.IntegerField(null=True)
    registered_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "users_customer"
        indexes = [models.Index(fields=["state", "registered_at"], name="users_customer_state")]
        permissions = [("block_customer", "Can block and unblock customers")]

    @property
    def may_log_in(self) -> bool:
        """A registration that the directory knows is as good as live; blocked and erased customers stay out."""
        return self.state not in (CustomerState.BLOCKED, CustomerState.ERASED)


class SessionEndReason(models.TextChoices):
    """Why a session ended."""

    LOGOUT = "logout"
    DELETED = "deleted"
    REUSED = "reused"
    PASSWORD = "password"  # noqa: S105 - a reason, no password
    BLOCKED = "blocked"
    CROWDED_OUT = "crowded_out"
    FIRST_PROOF = "first_proof"
    ERASED = "erased"


class Session(ShardedModel):
    """A device that is logged in: a chain of refresh tokens, of which `generation` is the only one not spent.

    Tokens are derived from the row (`apps.users.refresh_tokens`), none is stored.
    """

    pk = models.CompositePrimaryKey("slot", "user_id", "id")
    user_id = models.BigIntegerField()
    id = AsciiField(32)
    seed = DigestField(16)
    generation = models.IntegerField(default=0)
    device = models.CharField(max_length=200, default="")
    created_at = models.DateTimeField()
    rotated_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end_reason = AsciiField(16, choices=SessionEndReason.choices, default="")

    class Meta:
        db_table = "users_session"
        indexes = [models.Index(fields=["expires_at"], name="users_session_expires")]


class SessionEnd(ShardedModel):
    """The feed of ended sessions, which every process reads; a row is needed as long as an access token may live."""

    pk = models.CompositePrimaryKey("slot", "session_id")
    session_id = AsciiField(32)
    ended_at = models.DateTimeField()

    class Meta:
        db_table = "users_session_end"
        indexes = [models.Index(fields=["ended_at"], name="users_session_end_at")]


class Address(ShardedModel):
    """An address of a customer; `details` holds all of it, `country` once more in clear."""

    pk = models.CompositePrimaryKey("slot", "user_id", "id")
    user_id = models.BigIntegerField()
    id = models.BigIntegerField()
    country = AsciiField(2)
    details = EncryptedJSONField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "users_address"


class Erasure(ShardedModel):
    """That an account was ended, and how far its traces are erased: holding by holding (`step`), from `cursor` on.

    Stays when it is finished, as the proof that it was done; holds nothing personal.
    """

    pk = models.CompositePrimaryKey("slot", "user_id")
    user_id = models.BigIntegerField()
    actor = AsciiField(64)
    requested_at = models.DateTimeField()
    step = AsciiField(32, default="")
    cursor = AsciiField(64, default="")
    due_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "users_erasure"
        indexes = [models.Index(fields=["due_at"], name="users_erasure_due")]


class DataExportState(models.TextChoices):
    """REQUESTED: being collected. READY: whole."""

    REQUESTED = "requested"
    READY = "ready"


class DataExport(ShardedModel):
    """All that is held of a customer, as they asked for it; collected holding by holding (`step`), from `cursor` on."""

    pk = models.CompositePrimaryKey("slot", "user_id", "id")
    user_id = models.BigIntegerField()
    id = AsciiField(32)
    state = AsciiField(16, choices=DataExportState.choices, default=DataExportState.REQUESTED)
    requested_at = models.DateTimeField()
    step = AsciiField(32, default="")
    cursor = AsciiField(64, default="")
    part_count = models.IntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "users_export"
        indexes = [
            models.Index(fields=["due_at"], name="users_export_due"),
            models.Index(fields=["expires_at"], name="users_export_expires"),
        ]


class DataExportPart(ShardedModel):
    """A part of an export, numbered from 1."""

    pk = models.CompositePrimaryKey("slot", "user_id", "export_id", "n")
    user_id = models.BigIntegerField()
    export_id = AsciiField(32)
    n = models.IntegerField()
    content = EncryptedJSONField()

    class Meta:
        db_table = "users_export_part"


class IdentityState(models.TextChoices):
    """VOID: the registration was taken back; the row stays, so that it cannot be completed any more."""

    LIVE = "live"
    VOID = "void"


class Identity(models.Model):
    """A user id that the directory knows.

    Whoever writes it first decides: a registration (live) or the reaper of orphans (void). Imported customers are
    unique by where they came from.
    """

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    user_id = models.BigIntegerField(primary_key=True)
    state = AsciiField(8, choices=IdentityState.choices)
    source = AsciiField(32, null=True)
    source_number = AsciiField(64, null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "users_identity"
        constraints = [models.UniqueConstraint(fields=["source", "source_number"], name="users_identity_source")]

    def __str__(self) -> str:
        return f"{self.user_id} ({self.state})"


class Login(models.Model):
    """A verified login: the blind index of its value under one key. Two rows while the index key is replaced."""

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    digest = DigestField(32, primary_key=True)
    kind = AsciiField(8, choices=[(kind.value, kind.value) for kind in LoginKind])
    key_id = AsciiField(16)
    user_id = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "users_login"
        indexes = [
            models.Index(fields=["user_id", "kind"], name="users_login_user"),
            models.Index(fields=["key_id"], name="users_login_key"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.user_id}"


class Verification(models.Model):
    """A code sent to an e-mail address or phone, waiting for its owner's proof.

    Any number of users may wait for the same login; the code tells which of them it is. `accepted_at` is set when the
    proof has become a login and the shard has yet to be told. `is_first_proof`: the owner came by a code of their own,
    so that what others set before (password, sessions) ends when the shard is told.
    """

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    id = models.BigAutoField(primary_key=True)
    kind = AsciiField(8, choices=[(kind.value, kind.value) for kind in LoginKind])
    digest = DigestField(32)
    user_id = models.BigIntegerField()
    value = EncryptedTextField()
    code_digest = DigestField(32)
    try_count = models.SmallIntegerField(default=0)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    is_first_proof = models.BooleanField(default=False)

    class Meta:
        db_table = "users_verification"
        indexes = [
            models.Index(fields=["digest", "expires_at"], name="users_verification_login"),
            models.Index(fields=["expires_at"], name="users_verification_expires"),
            models.Index(fields=["accepted_at"], name="users_verification_accepted"),
            models.Index(fields=["user_id"], name="users_verification_user"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.user_id}"


class CodePurpose(models.TextChoices):
    """What a code lets its holder do: log in by phone; confirm a change as the shopper who is logged in."""

    LOGIN = "login"
    CONFIRM = "confirm"


class OneTimeCode(models.Model):
    """A code that somebody asked for; of one login and purpose only the newest is good.

    `try_count` and `used_at` change by compare-and-set only: a code has so many tries and one use, whatever comes at
    once.
    """

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    id = models.BigAutoField(primary_key=True)
    purpose = AsciiField(8, choices=CodePurpose.choices)
    digest = DigestField(32)
    code_digest = DigestField(32)
    try_count = models.SmallIntegerField(default=0)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "users_one_time_code"
        indexes = [
            models.Index(fields=["digest", "purpose", "id"], name="users_one_time_code_login"),
            models.Index(fields=["expires_at"], name="users_one_time_code_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose}, made at {self.created_at}"


class CodeSending(models.Model):
    """That a code was sent on request: the limits of a login and of an address are counted by these rows.

    `login_n` and `address_n` number the sendings of each. They are unique, so that of two requests at once one is
    counted and the other has to look again. An address that is exempt has neither digest nor number.
    """

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    id = models.BigAutoField(primary_key=True)
    digest = DigestField(32)
    login_n = models.IntegerField()
    address_digest = DigestField(32, null=True)
    address_n = models.IntegerField(null=True)
    sent_at = models.DateTimeField()

    class Meta:
        db_table = "users_code_sending"
        constraints = [
            models.UniqueConstraint(fields=["digest", "login_n"], name="users_code_sending_login"),
            models.UniqueConstraint(fields=["address_digest", "address_n"], name="users_code_sending_address"),
        ]
        indexes = [models.Index(fields=["sent_at"], name="users_code_sending_at")]

    def __str__(self) -> str:
        return f"sent at {self.sent_at}"


class SentMessage(models.Model):
    """What the local sender has sent, for `last_code`; empty under production."""

    databases: ClassVar[tuple[str, ...]] = (DIRECTORY,)

    id = models.BigAutoField(primary_key=True)
    digest = DigestField(32)
    kind = AsciiField(8)
    code = AsciiField(8, default="")
    text = models.CharField(max_length=200)
    sent_at = models.DateTimeField()

    class Meta:
        db_table = "users_sent_message"
        indexes = [
            models.Index(fields=["digest", "id"], name="users_sent_message_login"),
            models.Index(fields=["sent_at"], name="users_sent_message_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.sent_at}"


class StaffUser(AbstractUser):
    """An account of the operations staff. Shoppers have none, so no shopper can enter the admin."""

    databases: ClassVar[tuple[str, ...]] = (HOME,)

    class Meta:
        db_table = "users_staff"
        verbose_name = "staff account"
