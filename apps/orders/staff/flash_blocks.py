"""The staff's page of blocks: which users and networks may not buy, who decided so and why."""

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.orders.staff.flash_pages import REFUSALS, log_change, names_of, need, page, staff_id
from apps.orders.staff.forms import IdNumberField
from apps.promotions import services as promotions
from apps.promotions.models import BuyerBlock
from apps.promotions.selectors import blocks

BLOCKS_A_PAGE: Final = 200
VIEW: Final = "promotions.view_buyerblock"
_ADD: Final = "promotions.add_buyerblock"
_CHANGE: Final = "promotions.change_buyerblock"


class BlockForm(forms.Form):
    """Whom to block, where and why."""

    user = IdNumberField(required=False, label=_("User number"))
    network = forms.CharField(required=False, max_length=49, label=_("or address or network"), strip=True)
    sale = IdNumberField(required=False, label=_("Sale (empty: all sales)"))
    reason = forms.CharField(max_length=200, strip=True)


def block_list(request: HttpRequest) -> HttpResponse:
    """List blocks, those in force first; add one, or lift one."""
    need(request, VIEW)
    form = BlockForm(initial={"sale": request.GET.get("sale", "")})
    if request.method == "POST" and "lift" in request.POST:
        need(request, _CHANGE)
        _lift(request, IdNumberField(required=False).clean(request.POST["lift"]))
        return redirect("admin:flash-sales-blocks")
    if request.method == "POST":
        need(request, _ADD)
        form = BlockForm(request.POST)
        if form.is_valid() and _block(request, form):
            return redirect("admin:flash-sales-blocks")
    rows = blocks(limit=BLOCKS_A_PAGE)
    staff_ids = list({each for row in rows for each in (row.blocked_by, row.lifted_by) if each is not None})
    names = dict(zip(staff_ids, names_of(staff_ids), strict=True))
    context = {
        "form": form,
        "rows": [(row, names[row.blocked_by], None if row.lifted_by is None else names[row.lifted_by]) for row in rows],
        "may_add": request.user.has_perm(_ADD),
        "may_lift": request.user.has_perm(_CHANGE),
        "title": _("Blocked buyers"),
    }
    return page(request, "orders/staff/flash_blocks.html", context)


def _block(request: HttpRequest, form: BlockForm) -> bool:
    asked: dict[str, Any] = form.cleaned_data
    try:
        block_id = promotions.block_buyer(
            user_id=asked["user"],
            network=asked["network"],
            sale_id=asked["sale"],
            reason=asked["reason"],
            by=staff_id(request),
            now=timezone.now(),
        )
    except REFUSALS as refusal:
        form.add_error(None, str(refusal))
        return False
    whom = asked["network"] or f"user {asked['user']}"
    log_change(request, BuyerBlock, block_id, whom, f"blocked: {asked['reason']}")
    messages.success(request, f"{whom} is blocked; every process knows it within two seconds.")
    return True


def _lift(request: HttpRequest, block_id: int | None) -> None:
    if block_id is None or not promotions.lift_block(block_id, by=staff_id(request), now=timezone.now()):
        messages.error(request, "There is no such block in force.")
        return
    log_change(request, BuyerBlock, block_id, f"block {block_id}", "lifted")
    messages.success(request, "The block is lifted; every process knows it within two seconds.")
