"""The bus on Redis Streams: who may publish and read, and that order survives stalls, deaths and lost memory."""

import threading

import pytest
import redis
from django.conf import settings

from infra.events.bus import BusForgot, BusFull, BusUnavailable, Feed, Outgoing, PublisherFenced
from infra.events.envelope import PARTITION_COUNT, BadEnvelope, decode, encode
from infra.events.redis_bus import RedisEventBus, RedisGroupReader, RedisPublisher
from tests.factories.events import envelope, order_on, wait_until

pytestmark = pytest.mark.usefixtures("committed", "bus_of_its_own")
FEED = Feed(source="shard_0", token=1, epoch="e1", batch_number=0)
TYPES = frozenset({"test.moved"})


def _reader(name="a", *, types=TYPES):
    return RedisGroupReader(group="tests", consumer=name, types=types)


def _outgoing(*envelopes):
    return [Outgoing(slot=item.slot, type=item.type, body=encode(item)) for item in envelopes]


def _publisher():
    publisher = RedisPublisher()
    publisher.begin_epoch(FEED)
    return publisher


def _feed(batch_number, *, token=1, epoch="e1"):
    return Feed(source="shard_0", token=token, epoch=epoch, batch_number=batch_number)


def _versions(deliveries):
    return [delivery.envelope.version for delivery in deliveries]


def _fetch(reader, limit=100):
    return reader.fetch(partitions=range(PARTITION_COUNT), limit=limit)


def test_what_is_published_arrives_in_order_and_once():
    order = order_on("shard_0")
    sent = [envelope(order, version) for version in range(1, 11)]
    _publisher().publish(_feed(0), _outgoing(*sent))
    reader = _reader()
    reader.balance()

    first, second = _fetch(reader, limit=100), []
    reader.acknowledge(first)
    second = _fetch(reader)

    assert [delivery.envelope for delivery in first] == sent
    assert second == []


def test_events_of_other_types_are_acknowledged_unseen():
    order = order_on("shard_1")
    _publisher().publish(_feed(0), _outgoing(envelope(order, 1, type="test.other"), envelope(order, 2)))
    reader = _reader()
    reader.balance()

    deliveries = _fetch(reader)
    reader.acknowledge(deliveries)

    assert _versions(deliveries) == [2]
    assert RedisEventBus().backlog("tests") == 0


def test_an_event_survives_its_encoding_with_ids_beyond_53_bits():
    original = envelope(order_on("shard_0"), 7)

    assert decode(encode(original)) == original
    with pytest.raises(BadEnvelope):
        decode(b'{"event_id": 1}')


def test_a_relay_with_an_older_token_is_refused():
    publisher = _publisher()
    publisher.publish(_feed(0, token=2), [])

    with pytest.raises(PublisherFenced):
        publisher.publish(_feed(1, token=1), _outgoing(envelope(order_on("shard_0"), 1)))
    with pytest.raises(PublisherFenced):
        publisher.begin_epoch(_feed(0, token=1, epoch="e2"))


def test_an_emptied_bus_says_that_it_has_forgotten():
    publisher = _publisher()
    publisher.publish(_feed(0), [])
    client = redis.Redis.from_url(settings.REDIS_DURABLE_URL)
    client.delete(f"{settings.EVENT_BUS_PREFIX}:events:source:shard_0")

    with pytest.raises(BusForgot):
        publisher.publish(_feed(1), [])


def test_a_bus_that_came_back_with_an_older_state_says_that_it_has_forgotten():
    publisher = _publisher()
    publisher.publish(_feed(0), [])

    with pytest.raises(BusForgot):
        publisher.publish(_feed(2), [])


def test_a_batch_that_reaches_the_bus_late_is_a_repeat_and_no_loss_of_memory():
    publisher = _publisher()
    for batch_number in (0, 1, 2):
        publisher.publish(_feed(batch_number), [])

    publisher.publish(_feed(0), [])

    publisher.publish(_feed(3), [])


def test_a_full_partition_takes_nothing_of_the_batch(settings):
    settings.EVENT_PARTITION_MAX_ENTRIES = 3
    publisher = _publisher()
    order = order_on("shard_0")
    publisher.publish(_feed(0), _outgoing(*(envelope(order, version) for version in (1, 2, 3))))
    other = next(found for found in iter(lambda: order_on("shard_1"), None) if envelope(found, 1).partition != 0)

    with pytest.raises(BusFull):
        publisher.publish(_feed(1), _outgoing(envelope(other, 1), envelope(order, 4)))

    reader = _reader()
    reader.balance()
    assert sorted(_versions(_fetch(reader))) == [1, 2, 3]


def test_a_new_owner_first_gets_what_the_last_one_left_unacknowledged(settings):
    settings.EVENT_LEASE_S = 0.2
    order = order_on("shard_0")
    publisher = _publisher()
    publisher.publish(_feed(0), _outgoing(*(envelope(order, version) for version in range(1, 7))))
    dead = _reader("dead")
    dead.balance()
    dead.acknowledge(_fetch(dead, limit=3)[:1])
    publisher.publish(_feed(1), _outgoing(envelope(order, 7)))

    heir = _reader("heir")
    wait_until(lambda: len(heir.balance()) == PARTITION_COUNT, what="the dead owner's lease ends")
    seen = []
    for _ in range(5):
        heir.balance()
        seen += _versions(_fetch(heir, limit=2))

    assert seen == [2, 3, 4, 5, 6, 7]


def test_a_stalled_owner_reads_nothing_more_once_another_has_taken_over(settings):
    settings.EVENT_LEASE_S = 0.2
    order = order_on("shard_1")
    publisher = _publisher()
    stalled, heir = _reader("stalled"), _reader("heir")
    stalled.balance()
    wait_until(lambda: len(heir.balance()) == PARTITION_COUNT, what="the stalled owner's lease ends")
    publisher.publish(_feed(0), _outgoing(envelope(order, 1)))

    assert _fetch(stalled) == []
    assert _versions(_fetch(heir)) == [1]


def test_without_tenures_a_stalled_owner_would_take_events_out_of_the_row():
    """The negative control: the read that the tenure refuses leaves a gap in what the new owner gets."""
    order = order_on("shard_1")
    heir = _reader("heir")
    heir.balance()
    assert _fetch(heir) == []
    _publisher().publish(_feed(0), _outgoing(*(envelope(order, version) for version in (1, 2))))
    stream = f"{settings.EVENT_BUS_PREFIX}:events:stream:{envelope(order, 1).partition}"
    redis.Redis.from_url(settings.REDIS_DURABLE_URL).xreadgroup("tests", "owner", {stream: ">"}, count=1)

    assert _versions(_fetch(heir)) == [2]


def test_partitions_are_shared_fairly_and_an_orderly_leave_frees_them_at_once():
    first, second, third = _reader("a"), _reader("b"), _reader("c")
    assert len(first.balance()) == PARTITION_COUNT
    assert second.balance() == {}
    first.balance()
    second.balance()
    third.balance()
    for _ in range(2):
        owned = [set(reader.balance()) for reader in (first, second, third)]

    assert sorted(len(one) for one in owned) == [20, 22, 22]
    assert len(set().union(*owned)) == PARTITION_COUNT

    first.close()
    second.close()
    assert len(third.balance()) == PARTITION_COUNT


def test_after_a_failed_call_everything_unacknowledged_is_read_again(monkeypatch):
    order = order_on("shard_0")
    _publisher().publish(_feed(0), _outgoing(*(envelope(order, version) for version in (1, 2, 3))))
    reader = _reader()
    tenures = reader.balance()
    run = reader._server.run

    def answer_lost(script, **arguments):
        run(script, **arguments)
        raise BusUnavailable("the answer was lost")

    monkeypatch.setattr(reader._server, "run", answer_lost)
    with pytest.raises(BusUnavailable):
        _fetch(reader, limit=2)
    monkeypatch.undo()

    assert _fetch(reader) == []
    assert reader.balance()[0] != tenures[0]
    assert _versions(_fetch(reader)) + _versions(_fetch(reader)) == [1, 2, 3]


def test_trimming_keeps_what_any_group_has_not_acknowledged():
    order = order_on("shard_0")
    publisher = _publisher()
    slow = RedisGroupReader(group="slow", consumer="s", types=TYPES)
    slow.balance()
    quick = _reader()
    quick.balance()
    for batch_number in range(10):
        envelopes = (envelope(order, 100 * batch_number + at) for at in range(100))
        publisher.publish(_feed(batch_number), _outgoing(*envelopes))
        quick.acknowledge(_fetch(quick, limit=1000))

    assert publisher.trim() == 0

    half = slow.fetch(partitions=range(PARTITION_COUNT), limit=500)
    slow.acknowledge(half)
    assert 300 <= publisher.trim() <= 500
    rest = slow.fetch(partitions=range(PARTITION_COUNT), limit=1000)
    assert _versions(rest) == list(range(500, 1000))


def test_a_group_that_is_dropped_holds_nothing_back():
    order = order_on("shard_0")
    publisher = _publisher()
    abandoned, quick = RedisGroupReader(group="abandoned", consumer="s", types=TYPES), _reader()
    abandoned.balance()
    quick.balance()
    publisher.publish(_feed(0), _outgoing(*(envelope(order, version) for version in range(500))))
    quick.acknowledge(_fetch(quick, limit=1000))
    assert publisher.trim() == 0

    RedisEventBus().drop_group("abandoned")

    assert publisher.trim() >= 400


def test_groups_that_are_emptied_with_the_server_are_made_again():
    order = order_on("shard_0")
    publisher = _publisher()
    reader = _reader()
    reader.balance()
    client = redis.Redis.from_url(settings.REDIS_DURABLE_URL)
    for key in client.scan_iter(f"{settings.EVENT_BUS_PREFIX}:*"):
        client.delete(key)

    publisher.begin_epoch(FEED)
    publisher.publish(_feed(0), _outgoing(envelope(order, 1)))
    assert _fetch(reader) == []
    reader.balance()
    assert _versions(_fetch(reader)) == [1]


def test_readers_that_balance_at_once_share_all_partitions_without_overlap():
    readers = [_reader(str(number)) for number in range(4)]

    def balance_often(reader):
        for _ in range(20):
            reader.balance()

    threads = [threading.Thread(target=balance_often, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    owned = [set(reader.balance()) for reader in readers]
    assert sum(len(one) for one in owned) == len(set().union(*owned)) == PARTITION_COUNT
