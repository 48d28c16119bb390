"""What this backend makes of the server's features."""

from django.db.backends.mysql import features


class DatabaseFeatures(features.DatabaseFeatures):
    """Django's for MySQL, with composite keys compared column by column.

    MariaDB neither prunes partitions nor uses the primary key for `UPDATE ... WHERE (slot, id) = (5, 7)`, which is
    what Django writes for `save()` and for `pk__in` where it believes in tuple lookups; it does both for
    `slot = 5 AND id = 7` (tests/integration/sharding/test_pruning.py).
    """

    supports_tuple_lookups = False
