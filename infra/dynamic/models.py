"""The values that the staff have set; what has no row has its default."""

from django.core.exceptions import ValidationError
from django.db import models

from infra.dynamic.definitions import DEFINED, MAX_VALUE_LENGTH
from infra.sharding.fields import AsciiField


class DynamicSetting(models.Model):
    """One value that differs from its default, who set it and why."""

    name = AsciiField(max_length=64, primary_key=True)
    value = AsciiField(max_length=MAX_VALUE_LENGTH)
    reason = models.CharField(max_length=200, blank=True, default="")
    updated_by = models.CharField(max_length=150, editable=False, default="")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "dynamic_setting"
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"

    def clean(self) -> None:
        """Refuse a value that its definition does not take."""
        definition = DEFINED.get(self.name)
        if definition is None:
            raise ValidationError({"name": "There is no such setting."})
        try:
            self.value = str(definition.parse(self.value))
        except ValueError as error:
            raise ValidationError({"value": str(error)}) from error
