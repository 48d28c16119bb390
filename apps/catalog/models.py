"""Categories, products, SKUs and prices: the alias `catalog`."""

from decimal import Decimal
from typing import ClassVar

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from infra.sharding.fields import AsciiField

validate_sku = RegexValidator(r"\A[A-Za-z0-9._-]{1,64}\Z", "A SKU has 1 to 64 letters, digits, dots, dashes, _.")


class Category(models.Model):
    """A group of products; `slug` is what clients filter by."""

    databases: ClassVar[tuple[str, ...]] = ("catalog",)

    id = models.BigAutoField(primary_key=True)
    slug = AsciiField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    position = models.SmallIntegerField(default=0)

    class Meta:
        db_table = "catalog_category"
        ordering = ["position", "id"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """What a shopper looks at: a title, and SKUs that are variants of it.

    `source_code` is the code under which an import knows the product; empty for products made by the staff.
    """

    databases: ClassVar[tuple[str, ...]] = ("catalog",)

    id = models.BigAutoField(primary_key=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True, default="")
    search_text = models.TextField(
        editable=False, default="", help_text="Title and SKUs, as the text search reads them."
    )
    source_code = AsciiField(max_length=32, null=True, blank=True, unique=True)
    is_active = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "catalog_product"
        indexes = [
            # The two lists, newest first: all products, and those of a category.
            models.Index(fields=["is_active", "-id"], name="product_newest"),
            models.Index(fields=["category", "is_active", "-id"], name="product_category_newest"),
        ]

    def __str__(self) -> str:
        return self.title


class Sku(models.Model):
    """A sellable variant; `code` is what orders, prices and stock know it by, and case counts in it."""

    databases: ClassVar[tuple[str, ...]] = ("catalog",)

    id = models.BigAutoField(primary_key=True)
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="skus")
    code = AsciiField(max_length=64, unique=True, validators=[validate_sku])
    name = models.CharField(max_length=80, blank=True, default="")
    is_active = models.BooleanField(default=True)

    class Meta:
        db_table = "catalog_sku"
        ordering = ["code"]
        verbose_name = "SKU"

    def __str__(self) -> str:
        return self.code


class Price(models.Model):
    """What one unit of a SKU costs, tax included, in one currency."""

    databases: ClassVar[tuple[str, ...]] = ("catalog",)

    id = models.BigAutoField(primary_key=True)
    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="prices")
    currency = AsciiField(max_length=3)
    amount = models.DecimalField(max_digits=14, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "catalog_price"
        constraints = [
            models.UniqueConstraint(fields=["sku", "currency"], name="price_once_a_currency"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="price_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"
