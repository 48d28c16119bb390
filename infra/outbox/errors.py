"""What can go wrong between a fact and the bus."""


class AppendOutsideTransaction(RuntimeError):
    """An event was to be appended without the transaction of the fact that it tells."""


class RelayLeaseLost(Exception):
    """Another relay publishes this database's events now."""
