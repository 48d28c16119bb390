"""What can go wrong with stock, other than there being too little of it."""

from collections.abc import Collection

from infra.errors import LimitReached, NotFound


class UnknownSku(NotFound):
    """There is no stock row for a SKU."""

    title = "Unknown SKU"

    def __init__(self, skus: Collection[str]) -> None:
        self.skus = tuple(sorted(skus))
        super().__init__(f"No stock is kept of {', '.join(self.skus)}.")


class TooManyStrategies(LimitReached):
    """More SKUs would have a strategy of their own than every process can be expected to know."""

    title = "Too many strategies"

    def __init__(self, limit: int) -> None:
        super().__init__(f"At most {limit} SKUs may be claimed otherwise than merged.")


class ReservationConflict(Exception):
    """An order claims again what it no longer holds, or something else than it holds; nothing was written."""

    def __init__(self, order_ids: Collection[int]) -> None:
        self.order_ids = tuple(sorted(order_ids))
        super().__init__(f"The reservations of orders {self.order_ids} are closed or hold other lines.")


class StockMismatch(Exception):
    """The counters of a SKU do not cover what reservations say; nothing was written for the orders named.

    Only a change of the rows by hand leads here; `audit` shows it.
    """

    def __init__(self, order_ids: Collection[int]) -> None:
        self.order_ids = tuple(sorted(order_ids))
        super().__init__(f"The stock counters do not cover the reservations of orders {self.order_ids}.")
