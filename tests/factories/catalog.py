"""Products with SKUs and prices for tests."""

from decimal import Decimal
from secrets import token_hex

from django.utils import timezone

from apps.catalog.models import Category, Price, Product, Sku
from apps.catalog.services import refresh_search_text


def make_category(slug: str | None = None) -> Category:
    """Return a category of its own, or the one with that slug."""
    slug = slug or f"c-{token_hex(5)}"
    return Category.objects.using("catalog").get_or_create(slug=slug, defaults={"name": slug.title()})[0]


def make_product(
    title: str = "White Metal Lantern",
    *,
    skus: dict[str, str] | None = None,
    category: Category | None = None,
    is_active: bool = True,
    currency: str = "GBP",
) -> Product:
    """Make a product whose SKUs (code: price as text) default to one of its own at 3.39."""
    product = Product.objects.using("catalog").create(
        title=title, category=category or make_category(), is_active=is_active, updated_at=timezone.now()
    )
    for code, price in (skus or {f"T{token_hex(6)}": "3.39"}).items():
        sku = Sku.objects.using("catalog").create(product=product, code=code)
        Price.objects.using("catalog").create(sku=sku, currency=currency, amount=Decimal(price))
    refresh_search_text(product)
    return product


def code_of(product: Product) -> str:
    """Return the code of the product's only SKU."""
    return product.skus.get().code
