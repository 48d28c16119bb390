import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import infra.crypto.fields
import infra.sharding.fields


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ApiClient",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, unique=True)),
                ("is_active", models.BooleanField(default=True)),
                (
                    "scopes",
                    infra.sharding.fields.AsciiField(
                        blank=True,
                        default="",
                        max_length=500,
                        validators=[django.core.validators.RegexValidator("^([a-z-]+:(read|write)( (?!$))?)*\\Z")],
                    ),
                ),
                (
                    "acts_for",
                    infra.sharding.fields.AsciiField(
                        choices=[("nobody", "Nobody"), ("listed", "Listed"), ("anybody", "Anybody")],
                        default="nobody",
                        max_length=8,
                    ),
                ),
                (
                    "per_second",
                    models.PositiveIntegerField(
                        default=50,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                    ),
                ),
                (
                    "burst",
                    models.PositiveIntegerField(
                        default=100,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "API client",
                "db_table": "signing_client",
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("burst__gte", 1), ("per_second__gte", 1)), name="signing_client_positive"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiClientUser",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.BigIntegerField(validators=[django.core.validators.MinValueValidator(1)])),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="users", to="signing.apiclient"
                    ),
                ),
            ],
            options={
                "verbose_name": "shopper that the client acts for",
                "verbose_name_plural": "shoppers that the client acts for",
                "db_table": "signing_client_user",
                "constraints": [models.UniqueConstraint(fields=("client", "user_id"), name="signing_client_user_once")],
            },
        ),
        migrations.CreateModel(
            name="ApiClientKey",
            fields=[
                ("key_id", infra.sharding.fields.AsciiField(max_length=32, primary_key=True, serialize=False)),
                ("position", models.SmallIntegerField(null=True)),
                ("secret", infra.crypto.fields.EncryptedTextField(default="")),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=150)),
                ("revoked_at", models.DateTimeField(null=True)),
                ("revoked_by", models.CharField(default="", max_length=150)),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="keys", to="signing.apiclient"
                    ),
                ),
            ],
            options={
                "verbose_name": "key",
                "db_table": "signing_key",
                "ordering": ["created_at"],
                "constraints": [
                    models.UniqueConstraint(fields=("client", "position"), name="signing_key_position"),
                    models.CheckConstraint(condition=models.Q(("position__in", [1, 2])), name="signing_key_two"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SigningNonce",
            fields=[
                ("digest", infra.sharding.fields.DigestField(length=16, primary_key=True, serialize=False)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "signing_nonce",
                "indexes": [models.Index(fields=["expires_at"], name="signing_nonce_expires")],
            },
        ),
    ]
