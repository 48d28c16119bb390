"""Writes of payments, called inside the transactions of the use cases in orders; and the calls to the providers.

The writers (attempts, refunds, callbacks) take the place whose transaction is open and never touch the network. A use
case first moves the order (its compare-and-set is the lock of all of the order's rows), then calls them, so that all
transactions lock in one order. The callers of providers (calls) never write.
"""

from apps.payments.domain import next_poll_s, parse_reference, refund_try_delay_s
from apps.payments.services.attempts import (
    POLL,
    apply_change,
    cancel_open_attempts,
    check_choice,
    create_attempt,
    judge_outcome,
    owe_capture,
)
from apps.payments.services.callbacks import (
    alert_staff,
    callback_was_seen,
    count_callback,
    is_own_account,
    purge_callbacks,
    read_callback,
    store_callback,
)
from apps.payments.services.calls import ask_about_failed_try, ask_provider, execute_refund
from apps.payments.services.refunds import (
    REFUND,
    apply_refund_change,
    approve_refund,
    create_refund,
    judge_refund_outcome,
    refund_order,
    reject_refund,
    retry_refund,
    settle_refund_outside,
)

__all__ = [
    "POLL",
    "REFUND",
    "alert_staff",
    "apply_change",
    "apply_refund_change",
    "approve_refund",
    "ask_about_failed_try",
    "ask_provider",
    "callback_was_seen",
    "cancel_open_attempts",
    "check_choice",
    "count_callback",
    "create_attempt",
    "create_refund",
    "execute_refund",
    "is_own_account",
    "judge_outcome",
    "judge_refund_outcome",
    "next_poll_s",
    "owe_capture",
    "parse_reference",
    "purge_callbacks",
    "read_callback",
    "refund_order",
    "refund_try_delay_s",
    "reject_refund",
    "retry_refund",
    "settle_refund_outside",
    "store_callback",
]
