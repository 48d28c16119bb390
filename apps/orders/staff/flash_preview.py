"""A sale as shoppers will see it, before they do: the same document as the API's, at a moment of one's choice."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse

from apps.catalog.selectors import prices
from apps.orders.staff.flash_pages import VIEW, need, page, sale_or_404
from apps.promotions.api.reads import rfc3339, sale_document
from apps.promotions.domain import SaleState
from apps.promotions.selectors import units_left

_A_MINUTE: Final = timedelta(minutes=1)


def preview(request: HttpRequest, sale_id: int) -> HttpResponse:
    """Show a sale as it is to shoppers a minute before its start, at its start, or at its end (`?at=`)."""
    need(request, VIEW)
    sale = sale_or_404(sale_id)
    moments = {"before": sale.starts_at - _A_MINUTE, "start": sale.starts_at, "end": sale.ends_at}
    chosen = request.GET.get("at", "")
    chosen = chosen if chosen in moments else "start"
    left = units_left([(sale.id, sku) for sku in sale.items])
    published = sale
    if sale.state == SaleState.DRAFT:  # as it will be once it is published, with its units allotted
        published = replace(sale, state=SaleState.SCHEDULED)
        left = {(sale.id, item.sku): item.quota for item in sale.items.values()}
    at = moments[chosen]
    document = {**sale_document(published, left, now=at), "server_time": rfc3339(at)}
    usual = prices(list(sale.items))
    context = {
        "sale": sale,
        "chosen": chosen,
        "moments": [("before", "A minute before"), ("start", "At the start"), ("end", "At the end")],
        "document": document,
        "items": [(item, usual.get(item["sku"])) for item in document["items"]],
        "json": json.dumps(document, indent=2, ensure_ascii=False),
        "title": f"Preview of {sale.name}",
    }
    return page(request, "orders/staff/flash_preview.html", context)
