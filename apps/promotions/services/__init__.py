"""Writes of promotions: sales, allotments and their transfers, claims, coupons."""

from apps.promotions.services.allotments import close_allotments, debit_allotment, receive
from apps.promotions.services.answers import count_answer
from apps.promotions.services.blocks import block_buyer, check_not_blocked, lift_block
from apps.promotions.services.claims import begin_settling, finish_settling, give_back, share_out, take, would_have
from apps.promotions.services.coupon_claims import claim_coupon, grant_coupon, grant_coupons, settle_claims
from apps.promotions.services.queue import SaleQueue
from apps.promotions.services.redeeming import redeem_coupons, restore_coupons
from apps.promotions.services.retention import (
    begin_purge,
    finish_purge,
    purge_claims,
    purge_coupons,
    purge_in_stock,
    purge_on_shard,
)
from apps.promotions.services.sales import (
    MAX_ITEMS,
    approve_sale,
    change_sale,
    check_approved,
    create_sale,
    mark_closed,
    move_sale,
    shorten_sale,
)
from apps.promotions.services.templates import change_template, check_template, create_template
from apps.promotions.services.tickets import (
    end_each,
    end_tickets,
    give_up_at,
    purge_tickets,
    read_ticket,
    ticket_ends,
    ticket_text,
)
from apps.promotions.services.tokens import check_open, check_purchase_token, issue_purchase_token
from apps.promotions.services.transfers import mark_done, record_debit, record_receipt

__all__ = [
    "MAX_ITEMS",
    "SaleQueue",
    "approve_sale",
    "begin_purge",
    "begin_settling",
    "block_buyer",
    "change_sale",
    "change_template",
    "check_approved",
    "check_not_blocked",
    "check_open",
    "check_purchase_token",
    "check_template",
    "claim_coupon",
    "close_allotments",
    "count_answer",
    "create_sale",
    "create_template",
    "debit_allotment",
    "end_each",
    "end_tickets",
    "finish_purge",
    "finish_settling",
    "give_back",
    "give_up_at",
    "grant_coupon",
    "grant_coupons",
    "issue_purchase_token",
    "lift_block",
    "mark_closed",
    "mark_done",
    "move_sale",
    "purge_claims",
    "purge_coupons",
    "purge_in_stock",
    "purge_on_shard",
    "purge_tickets",
    "read_ticket",
    "receive",
    "record_debit",
    "record_receipt",
    "redeem_coupons",
    "restore_coupons",
    "settle_claims",
    "share_out",
    "shorten_sale",
    "take",
    "ticket_ends",
    "ticket_text",
    "would_have",
]
