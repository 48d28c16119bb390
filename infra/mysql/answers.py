"""Reading, in bytes that lie in a socket's buffer, whether a statement's answer is there to its end.

The format is the MySQL client/server protocol's (text protocol, "COM_QUERY Response"): packets of a 3-byte length, a
sequence number and a body. An OK (0x00) or ERR (0xFF) packet is a whole answer. A result set begins with its number of
columns and ends with an EOF packet (0xFE, warnings, status flags).
"""

from typing import Final

# A server flushes its network buffer (net_buffer_length, 16 KiB by default) when it is full and at the end of an
# answer, so an answer that is shorter comes in one piece.
PEEK_BYTES: Final = 16 * 1024

_OK: Final = 0x00
_ERR: Final = 0xFF
_EOF_HEADER: Final = b"\x05\x00\x00"
_EOF: Final = 0xFE
_EOF_PACKET_BYTES: Final = 9
_TLS_APPLICATION_RECORD: Final = b"\x17\x03\x03"
_IN_TRANSACTION: Final = 0x0001
_MORE_RESULTS: Final = 0x0008


def is_complete(answer: bytes) -> bool:
    """Whether the rest of the answer can be read without waiting.

    An empty `answer` (the server hung up) is complete: reading it fails at once. A result set of which only the
    columns have come could be mistaken for a complete one; no server flushes there, and reading on is bounded by the
    connection's own read timeout.
    """
    size = len(answer)
    if not size:
        return True
    if size >= PEEK_BYTES or size <= 4:
        return False
    if answer.startswith(_TLS_APPLICATION_RECORD):
        return _are_whole_tls_records(answer)
    kind = answer[4]
    if kind in (_OK, _ERR):
        return size == 4 + int.from_bytes(answer[:3], "little") and not (
            kind == _OK and _status(answer) & _MORE_RESULTS
        )
    return _ends_in_eof(answer) and not answer[-2] & _MORE_RESULTS


def is_in_transaction(answer: bytes | None) -> bool | None:
    """Whether a transaction was open after the answer; None when the answer does not tell."""
    if not answer or len(answer) <= 4 or answer.startswith(_TLS_APPLICATION_RECORD):
        return None
    if answer[4] == _OK:
        return bool(_status(answer) & _IN_TRANSACTION)
    if _ends_in_eof(answer):
        return bool(answer[-2] & _IN_TRANSACTION)
    return None


def _ends_in_eof(answer: bytes) -> bool:
    return answer[-_EOF_PACKET_BYTES:-6] == _EOF_HEADER and answer[-5] == _EOF


def _status(ok_packet: bytes) -> int:
    """Return the status flags of an OK packet: kind, affected rows and insert id as varying integers, flags."""
    position = 5
    for _ in range(2):
        first = ok_packet[position] if position < len(ok_packet) else 0
        position += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(first, 1)
    return int.from_bytes(ok_packet[position : position + 2], "little")


def _are_whole_tls_records(answer: bytes) -> bool:
    """Whether the bytes are TLS records (RFC 8446, 5.1) to the last byte; what is in them cannot be seen."""
    position = 0
    while answer[position : position + 3] == _TLS_APPLICATION_RECORD:
        position += 5 + int.from_bytes(answer[position + 3 : position + 5], "big")
    return position == len(answer)
