"""What the staff have done, and what they keep for themselves; all in `default`."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from infra.sharding.fields import AsciiField


class Outcome(models.TextChoices):
    """What became of an action. BEGUN: under way, or its process died before it could tell."""

    BEGUN = "begun", _("begun")
    DONE = "done", _("done")
    REFUSED = "refused", _("refused")


class StaffAction(models.Model):
    """One thing that a member of the staff did, to what and why; written before it is done, never deleted by hand.

    `token` is that of the form it was asked with: unique, so a form that is sent twice does its work once. `target`
    names what it was done to (`order:123`); `detail` holds no personal data.
    """

    id = models.BigAutoField(primary_key=True)
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(_("who"), max_length=150)
    kind = AsciiField(max_length=48, verbose_name=_("what"))
    target = AsciiField(max_length=80, verbose_name=_("to what"))
    reason = models.CharField(_("why"), max_length=200, default="", blank=True)
    detail = models.CharField(_("detail"), max_length=500, default="", blank=True)
    outcome = AsciiField(max_length=8, choices=Outcome.choices, default=Outcome.BEGUN, verbose_name=_("outcome"))
    token = AsciiField(max_length=32, null=True, unique=True, editable=False)
    at = models.DateTimeField(_("when"))

    class Meta:
        db_table = "staff_action"
        verbose_name = _("action of the staff")
        verbose_name_plural = _("log of the staff")
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["target", "id"], name="staff_action_target"),
            models.Index(fields=["staff_id", "id"], name="staff_action_staff"),
            models.Index(fields=["at"], name="staff_action_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


class SavedView(models.Model):
    """A list as one member of the staff likes it: the page and its query, under a name of theirs."""

    id = models.BigAutoField(primary_key=True)
    staff_id = models.BigIntegerField()
    page = AsciiField(max_length=48)
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)

    class Meta:
        db_table = "staff_saved_view"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["staff_id", "page", "name"], name="staff_saved_view_name")]

    def __str__(self) -> str:
        return self.name


class QueueOwner(models.Model):
    """Who has taken an item of a work queue; the item itself is where its queue reads it from."""

    id = models.BigAutoField(primary_key=True)
    queue = AsciiField(max_length=48)
    item = AsciiField(max_length=160)
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(max_length=150)
    taken_at = models.DateTimeField()

    class Meta:
        db_table = "staff_queue_owner"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["queue", "item"], name="staff_queue_owner_item")]
        indexes = [models.Index(fields=["taken_at"], name="staff_queue_owner_at")]

    def __str__(self) -> str:
        return f"{self.item} of {self.queue}: {self.staff_name}"


class Export(models.Model):
    """A file that is made in the background, a part at a time; `position` is where the next part begins.

    Every part commits with the position after it, so a killed task repeats nothing and leaves nothing out.
    """

    class State(models.TextChoices):
        """Where it stands."""

        WAITING = "waiting", _("waiting")
        READY = "ready", _("ready")
        FAILED = "failed", _("failed")
        EXPIRED = "expired", _("expired")

    id = models.BigAutoField(primary_key=True)
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(_("who"), max_length=150)
    kind = AsciiField(max_length=48)
    query = models.JSONField(default=dict)
    reason = models.CharField(_("why"), max_length=200)
    state = AsciiField(max_length=8, choices=State.choices, default=State.WAITING)
    position = models.JSONField(null=True)
    part_count = models.IntegerField(default=0)
    row_count = models.IntegerField(default=0)
    share = models.FloatField(default=0)
    error = models.CharField(max_length=200, default="", blank=True)
    made_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "staff_export"
        default_permissions = ()
        indexes = [
            models.Index(fields=["state", "id"], name="staff_export_state"),
            models.Index(fields=["staff_id", "id"], name="staff_export_staff"),
            models.Index(fields=["expires_at"], name="staff_export_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class ExportPart(models.Model):
    """A stretch of an export's text, in order."""

    id = models.BigAutoField(primary_key=True)
    export_id = models.BigIntegerField()
    n = models.IntegerField()
    text = models.TextField()

    class Meta:
        db_table = "staff_export_part"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["export_id", "n"], name="staff_export_part_n")]

    def __str__(self) -> str:
        return f"part {self.n} of export {self.export_id}"


class BulkJob(models.Model):
    """The same action on many things, counted first and then done one by one, each with a result of its own."""

    class State(models.TextChoices):
        """DRAFT: counted, nothing done. RUNNING: a worker goes on with what is left, whatever became of the last."""

        DRAFT = "draft", _("counted")
        RUNNING = "running", _("running")
        DONE = "done", _("done")

    id = models.BigAutoField(primary_key=True)
    staff_id = models.BigIntegerField()
    staff_name = models.CharField(_("who"), max_length=150)
    kind = AsciiField(max_length=48)
    reason = models.CharField(_("why"), max_length=200, default="")
    state = AsciiField(max_length=8, choices=State.choices, default=State.DRAFT)
    made_at = models.DateTimeField()

    class Meta:
        db_table = "staff_bulk_job"
        default_permissions = ()
        indexes = [
            models.Index(fields=["state", "id"], name="staff_bulk_job_state"),
            models.Index(fields=["staff_id", "id"], name="staff_bulk_job_staff"),
            models.Index(fields=["made_at"], name="staff_bulk_job_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class BulkItem(models.Model):
    """One thing of a bulk job, at the version that it was counted at."""

    class State(models.TextChoices):
        """UNFIT: its state did not allow the action when it was counted. BEGUN: a worker is at it, or died there."""

        WAITING = "waiting", _("waiting")
        UNFIT = "unfit", _("not possible")
        BEGUN = "begun", _("begun")
        DONE = "done", _("done")
        REFUSED = "refused", _("refused")

    id = models.BigAutoField(primary_key=True)
    job_id = models.BigIntegerField()
    target_id = models.BigIntegerField()
    version = models.IntegerField(default=0)
    state = AsciiField(max_length=8, choices=State.choices, default=State.WAITING)
    detail = models.CharField(max_length=200, default="", blank=True)
    begun_at = models.DateTimeField(null=True)
    made_at = models.DateTimeField()

    class Meta:
        db_table = "staff_bulk_item"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job_id", "target_id"], name="staff_bulk_item_target")]
        indexes = [
            models.Index(fields=["job_id", "state", "id"], name="staff_bulk_item_state"),
            models.Index(fields=["made_at"], name="staff_bulk_item_at"),
        ]

    def __str__(self) -> str:
        return f"{self.target_id} of job {self.job_id}: {self.state}"


class Approval(models.Model):
    """Something that one has asked for and a second person must agree to before it is done.

    `target_id` and `version` say what it was asked on; whoever decides is never who asked (the CHECK sees to it).
    """

    class State(models.TextChoices):
        """Where it stands."""

        WAITING = "waiting", _("waiting")
        APPROVED = "approved", _("approved")
        REJECTED = "rejected", _("rejected")

    id = models.BigAutoField(primary_key=True)
    kind = AsciiField(max_length=48)
    target_id = models.BigIntegerField()
    version = models.IntegerField()
    reason = models.CharField(_("why"), max_length=200)
    asked_by = models.BigIntegerField()
    asked_name = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    state = AsciiField(max_length=8, choices=State.choices, default=State.WAITING)
    decided_by = models.BigIntegerField(null=True)
    decided_name = models.CharField(max_length=150, default="", blank=True)
    decided_at = models.DateTimeField(null=True)
    detail = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        db_table = "staff_approval"
        default_permissions = ()
        indexes = [
            models.Index(fields=["state", "id"], name="staff_approval_state"),
            models.Index(fields=["asked_at"], name="staff_approval_at"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(decided_by__isnull=True) | ~models.Q(decided_by=models.F("asked_by")),
                name="staff_approval_four_eyes",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.target_id}: {self.state}"
