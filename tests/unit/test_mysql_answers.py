"""Whether an answer lies whole in the socket's buffer, judged from bytes as servers send them."""

import pytest

from infra.mysql.answers import PEEK_BYTES, is_complete, is_in_transaction


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def ok(*, affected: bytes = b"\x01", insert_id: bytes = b"\x00", status: int = 0x0002) -> bytes:
    return packet(1, b"\x00" + affected + insert_id + status.to_bytes(2, "little") + b"\x00\x00")


def eof(number: int, *, status: int = 0x0002) -> bytes:
    return packet(number, b"\xfe\x00\x00" + status.to_bytes(2, "little"))


def rows(*, status: int = 0x0002) -> bytes:
    column = packet(2, b"\x03def\x00\x00\x00\x01a\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00")
    return packet(1, b"\x01") + column + eof(3) + packet(4, b"\x011") + eof(5, status=status)


ERR = packet(1, b"\xff\x26\x04#23000Duplicate entry")


@pytest.mark.parametrize("answer", [ok(), ok(affected=b"\xfc\xff\xff"), ERR, rows(), b""])
def test_a_whole_answer_is_read_at_once(answer: bytes):
    assert is_complete(answer)


@pytest.mark.parametrize("answer", [ok(), ERR, rows()])
def test_an_answer_cut_anywhere_is_not_taken_for_whole(answer: bytes):
    columns_end = answer.find(eof(3)) + len(eof(3)) if answer == rows() else -1
    cuts = [cut for cut in range(1, len(answer)) if cut != columns_end]

    assert not any(is_complete(answer[:cut]) for cut in cuts)


def test_an_answer_that_fills_the_servers_buffer_may_go_on():
    assert not is_complete(b"\x00" * PEEK_BYTES)


@pytest.mark.parametrize("answer", [ok(status=0x000A), rows(status=0x000A)])
def test_an_answer_with_another_one_behind_it_is_not_whole(answer: bytes):
    assert not is_complete(answer)


@pytest.mark.parametrize("size", [0x00FF, 0x0100, 0x1234])
def test_of_an_encrypted_answer_the_records_are_counted(size: int):
    record = b"\x17\x03\x03" + size.to_bytes(2, "big") + b"\x00" * size

    assert is_complete(record)
    assert is_complete(record * 2)
    assert not is_complete(record[:-1])
    assert is_in_transaction(record) is None


@pytest.mark.parametrize("affected", [b"\x01", b"\xfc\x10\x27", b"\xfd\x10\x27\x01", b"\xfe" + b"\x01" * 8])
@pytest.mark.parametrize("insert_id", [b"\x00", b"\xfe" + b"\x01" * 8])
def test_the_answer_tells_whether_a_transaction_is_open(affected: bytes, insert_id: bytes):
    assert is_in_transaction(ok(affected=affected, insert_id=insert_id, status=0x0003)) is True
    assert is_in_transaction(ok(affected=affected, insert_id=insert_id, status=0x0002)) is False
    assert is_in_transaction(rows(status=0x0003)) is True
    assert is_in_transaction(rows(status=0x0002)) is False


@pytest.mark.parametrize("answer", [None, b"", ERR])
def test_where_the_answer_does_not_tell_nothing_is_assumed(answer: bytes | None):
    assert is_in_transaction(answer) is None
