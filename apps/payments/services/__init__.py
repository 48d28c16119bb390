"""Writes of payments, called inside the transactions of the use cases in orders; and the calls to the providers.

The writers (attempts, refunds, callbacks) take the place whose transaction is open and never touch the network. A use
case first moves the order (its compare-and-set is the lock of all of the order's rows), then calls them, so that all
transactions lock in one order. The callers of providers (calls) never write.
"""

from apps.payments.domain import next_poll_s, parse_reference, refund_try_delay_s
from apps.payments.providers.registry import provider_names
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
from apps.payments.services.calls import (
    ask_about_failed_try,
    ask_about_payment,
    ask_about_refund,
    ask_provider,
    execute_refund,
    read_settlement,
)
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
from apps.payments.services.settlements import (
    begin_run,
    finish_run,
    is_settled,
    keep_difference,
    match_entries,
    mend_difference,
    missing_in_file,
    note_progress,
    open_differences,
    resolve_difference,
    run_is_finished,
)

__all__ = [
    "POLL",
    "REFUND",
    "alert_staff",
    "apply_change",
    "apply_refund_change",
    "approve_refund",
    "ask_about_failed_try",
    "ask_about_payment",
    "ask_about_refund",
    "ask_provider",
    "begin_run",
    "callback_was_seen",
    "cancel_open_attempts",
    "check_choice",
    "count_callback",
    "create_attempt",
    "create_refund",
    "execute_refund",
    "finish_run",
    "is_own_account",
    "is_settled",
    "judge_outcome",
    "judge_refund_outcome",
    "keep_difference",
    "match_entries",
    "mend_difference",
    "missing_in_file",
    "next_poll_s",
    "note_progress",
    "open_differences",
    "owe_capture",
    "parse_reference",
    "provider_names",
    "purge_callbacks",
    "read_callback",
    "read_settlement",
    "refund_order",
    "refund_try_delay_s",
    "reject_refund",
    "resolve_difference",
    "retry_refund",
    "run_is_finished",
    "settle_refund_outside",
    "store_callback",
]
