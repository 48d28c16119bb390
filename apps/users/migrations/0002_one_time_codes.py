from django.db import migrations, models

import infra.sharding.fields


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="OneTimeCode",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "purpose",
                    infra.sharding.fields.AsciiField(
                        choices=[("login", "Login"), ("confirm", "Confirm")], max_length=8
                    ),
                ),
                ("digest", infra.sharding.fields.DigestField(length=32)),
                ("code_digest", infra.sharding.fields.DigestField(length=32)),
                ("try_count", models.SmallIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "users_one_time_code",
                "indexes": [
                    models.Index(fields=["digest", "purpose", "id"], name="users_one_time_code_login"),
                    models.Index(fields=["expires_at"], name="users_one_time_code_expires"),
                ],
            },
        ),
        migrations.CreateModel(
            name="CodeSending",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("digest", infra.sharding.fields.DigestField(length=32)),
                ("login_n", models.IntegerField()),
                ("address_digest", infra.sharding.fields.DigestField(length=32, null=True)),
                ("address_n", models.IntegerField(null=True)),
                ("sent_at", models.DateTimeField()),
            ],
            options={
                "db_table": "users_code_sending",
                "indexes": [models.Index(fields=["sent_at"], name="users_code_sending_at")],
                "constraints": [
                    models.UniqueConstraint(fields=("digest", "login_n"), name="users_code_sending_login"),
                    models.UniqueConstraint(fields=("address_digest", "address_n"), name="users_code_sending_address"),
                ],
            },
        ),
        migrations.AddField(
            model_name="verification",
            name="is_first_proof",
            field=models.BooleanField(default=False),
        ),
        migrations.AddIndex(
            model_name="verification",
            index=models.Index(fields=["user_id"], name="users_verification_user"),
        ),
        migrations.AlterField(
            model_name="session",
            name="end_reason",
            field=infra.sharding.fields.AsciiField(
                choices=[
                    ("logout", "Logout"),
                    ("deleted", "Deleted"),
                    ("reused", "Reused"),
                    ("password", "Password"),
                    ("blocked", "Blocked"),
                    ("crowded_out", "Crowded Out"),
                    ("first_proof", "First Proof"),
                ],
                default="",
                max_length=16,
            ),
        ),
    ]
