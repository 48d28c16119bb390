"""Raw requests, what the lean worker says to each, and where and why the stock worker says otherwise."""

from dataclasses import dataclass, field

HOST = b"Host: test\r\n"
WAITS = 0


def _get(*lines: bytes, target: bytes = b"/echo", version: bytes = b"HTTP/1.1", host: bytes = HOST) -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    head = b"POST /echo " + version + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return head + body


def _chunked(body: bytes, *lines: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", *lines, body=body)


@dataclass(frozen=True)
class Stock:
    """How the stock worker differs: its status, whether it keeps the connection, the environ keys, and why."""

    why: str
    status: int | None = None
    stays_open: bool | None = None
    keys: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    status: int = 200
    stays_open: bool = True
    method: str = "GET"
    stock: Stock | None = None


_CHUNKED_KEYS = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"})
_WHOLE = Stock("the lean worker hands a chunked body on with its length, which Django goes by", keys=_CHUNKED_KEYS)


def _refused(name: str, raw: bytes, stock: Stock | None = None, status: int = 400, method: str = "GET") -> Case:
    return Case(name, raw, status, stays_open=False, method=method, stock=stock)


ACCEPTED = [
    Case("plain", _get()),
    Case("query", _get(target=b"/echo?a=b&c=%20d?e")),
    Case("empty query", _get(target=b"/echo?")),
    Case("percent-encoded path", _get(target=b"/echo/%C3%A9%2F%20+%zz%00")),
    Case("odd characters in the target", _get(target=b"/<>\"{}|\\^`[]';:@&=,!~*()")),
    Case("path that begins with two slashes", _get(target=b"//other.example/echo")),
    Case("dots in the path stay", _get(target=b"/a/../b/./c")),
    Case("http 1.0", _get(version=b"HTTP/1.0"), stays_open=False),
    Case("http 1.0 without host", _get(version=b"HTTP/1.0", host=b""), stays_open=False),
    Case("http 1.0 with keep-alive", _get(b"Connection: keep-alive", version=b"HTTP/1.0")),
    Case("connection close", _get(b"Connection: close"), stays_open=False),
    Case("connection close in capitals", _get(b"CONNECTION: CLOSE"), stays_open=False),
    Case(
        "close among other wishes",
        _get(b"Connection: x-hop, close"),
        stays_open=False,
        stock=Stock("the stock worker takes the header for one word", stays_open=True),
    ),
    Case("head", _get().replace(b"GET", b"HEAD"), method="HEAD"),
    Case("options for the server", _get(target=b"*").replace(b"GET", b"OPTIONS")),
    Case("delete", _get().replace(b"GET", b"DELETE")),
    Case("a method of nobody's", _get().replace(b"GET", b"BREW")),
    Case("a method with a dash", _get().replace(b"GET", b"M-SEARCH")),
    Case("repeated header", _get(b"Accept: a", b"Accept: b", b"accept: c")),
    Case("empty header", _get(b"X-Empty:", b"X-Blank:  ")),
    Case("white space around a value", _get(b"X-Padded: \t a  b \t ")),
    Case("bytes beyond ascii in a value", _get(b"X-Latin: \xe9\xff")),
    Case("value with colons", _get(b"X-Colon: a:b:c")),
    Case("odd header name", _get(b"!#$%&'*+.^`|~09azAZ-: x")),
    Case("empty line ahead", b"\r\n" + _get()),
    Case("body", _post(b"Content-Type: text/plain", b"Content-Length: 5", body=b"hello")),
    Case("body of a get", _get(b"Content-Length: 5").replace(b"\r\n\r\n", b"\r\n\r\nhello")),
    Case("no body", _post(b"Content-Length: 0")),
    Case("post without a length", _post()),
    Case("length with leading zeros", _post(b"Content-Length: 005", body=b"hello")),
    Case("body that looks like a request", _post(b"Content-Length: %d" % len(_get()), body=_get())),
    Case("chunked", _chunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), stock=_WHOLE),
    Case(
        "chunked, upper case", _post(b"Transfer-Encoding: CHUNKED", body=b"A\r\n0123456789\r\n0\r\n\r\n"), stock=_WHOLE
    ),
    Case("chunked, zeros ahead of a size", _chunked(b"00000005\r\nhello\r\n000\r\n\r\n"), stock=_WHOLE),
    Case("chunked and empty", _chunked(b"0\r\n\r\n"), stock=_WHOLE),
    Case("trailers", _chunked(b"1\r\na\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n", b"Trailer: X-Sum"), stock=_WHOLE),
    Case("an offer to upgrade", _get(b"Connection: Upgrade", b"Upgrade: h2c")),
    Case(
        "an offer to upgrade with a body",
        _post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"),
    ),
    Case(
        "an offer to upgrade with a chunked body",
        _chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Connection: Upgrade", b"Upgrade: h2c"),
        stock=_WHOLE,
    ),
    Case("a hundred headers", _get(*[b"X-%d: y" % number for number in range(99)])),
    Case("a long line", _get(target=b"/echo?" + b"a" * 8100)),
    Case("a long header", _get(b"X-Long: " + b"a" * 8100)),
    Case(
        "absolute target",
        _get(target=b"http://other.example:81/echo?a=b"),
        stock=Stock("RFC 9112, 3.2.2: the target's host counts, not the Host header", keys=frozenset({"HTTP_HOST"})),
    ),
    Case(
        "absolute target without a path",
        _get(target=b"HTTP://other.example"),
        stock=Stock("RFC 9110, 4.2.3: an empty path is the same as /", keys=frozenset({"HTTP_HOST", "PATH_INFO"})),
    ),
]

_PASSES = "the stock worker leaves it to the application"
REFUSED = [
    # Framing that two servers could read in two ways.
    _refused("length and chunked", _chunked(b"0\r\n\r\n", b"Content-Length: 5")),
    _refused("chunked and length", _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    _refused("two lengths", _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")),
    _refused("the same length twice", _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    _refused("list of lengths", _post(b"Content-Length: 5, 5", body=b"hello")),
    _refused("negative length", _post(b"Content-Length: -1")),
    _refused("signed length", _post(b"Content-Length: +5", body=b"hello")),
    _refused("hexadecimal length", _post(b"Content-Length: 0x5", body=b"hello")),
    _refused("length of two words", _post(b"Content-Length: 5 5", body=b"hello")),
    _refused("empty length", _post(b"Content-Length:", body=b"hello")),
    _refused(
        "length that overflows",
        _post(b"Content-Length: 99999999999999999999999"),
        Stock("the stock worker waits for such a body", WAITS),
    ),
    _refused("chunked twice", _chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked")),
    _refused("chunked twice in a list", _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    _refused("xchunked", _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    _refused("quoted chunked", _post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    _refused("chunked with a parameter", _post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    _refused("chunked behind a vertical tab", _post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    _refused("chunked behind a comma", _post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n")),
    _refused(
        "identity",
        _post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"),
    ),
    _refused(
        "gzip and chunked",
        _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        Stock("the stock worker takes the coding off the frame only, and hands on what is still packed", 200),
    ),
    _refused("chunked and identity", _post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    _refused("folded chunked", _post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    _refused("space ahead of the colon", _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    _refused("tab ahead of the colon", _post(b"Content-Length\t: 5", body=b"hello")),
    _refused("space ahead of the name", _get(b" Transfer-Encoding: chunked")),
    _refused("chunked on 1.0", _post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"HTTP/1.0")),
    # Names that WSGI would take for others.
    _refused(
        "underscore in a name", _get(b"X_Forwarded_For: 1.2.3.4"), Stock("the stock worker drops the header", 200, True)
    ),
    _refused(
        "length with an underscore",
        _post(b"Content_Length: 5", b"Content-Length: 0"),
        Stock("the stock worker drops the header", 200, True),
    ),
    # Lines.
    _refused("folded header", _get(b"X-Folded: a", b" b")),
    _refused("folded with a tab", _get(b"X-Folded: a", b"\tb")),
    _refused("bare line feeds", b"GET /echo HTTP/1.1\nHost: test\n\n"),
    _refused("one bare line feed", b"GET /echo HTTP/1.1\r\nHost: test\nX: y\r\n\r\n"),
    _refused("bare line feed in a value", _get(b"X: a\nTransfer-Encoding: chunked")),
    _refused("bare carriage return", _get(b"X: a\rb")),
    _refused("bare carriage return ahead of a name", _get(b"\rX: a")),
    _refused("nul in a value", _get(b"X: a\x00b")),
    _refused("control character in a value", _get(b"X: a\x01b")),
    _refused("delete in a value", _get(b"X: a\x7fb")),
    _refused("nul in a name", _get(b"X\x00: a")),
    _refused("no colon", _get(b"no colon")),
    _refused("empty name", _get(b": a")),
    _refused("space in a name", _get(b"X Y: a")),
    _refused("bytes beyond ascii in a name", _get(b"X\xe9: a")),
    # Host.
    _refused("no host", _get(host=b""), Stock(_PASSES, 200, True)),
    _refused("no host with an absolute target", _get(host=b"", target=b"http://a/"), Stock(_PASSES, 200, True)),
    _refused("two hosts", _get(b"Host: other")),
    _refused("a list of hosts", _get(host=b"Host: a, b\r\n"), Stock(_PASSES, 200, True)),
    _refused("a host with a path", _get(host=b"Host: a/b\r\n"), Stock(_PASSES, 200, True)),
    _refused("a host with a user", _get(host=b"Host: a@b\r\n"), Stock(_PASSES, 200, True)),
    _refused("two types", _post(b"Content-Type: a/b", b"Content-Type: c/d", b"Content-Length: 0")),
    # The request line.
    _refused("nonsense", b"nonsense\r\n\r\n"),
    _refused("no target", b"GET HTTP/1.1\r\nHost: test\r\n\r\n"),
    _refused("empty target", b"GET  HTTP/1.1\r\nHost: test\r\n\r\n"),
    _refused("two spaces", b"GET  /echo HTTP/1.1\r\nHost: test\r\n\r\n"),
    _refused("two spaces behind the target", b"GET /echo  HTTP/1.1\r\nHost: test\r\n\r\n"),
    _refused("a space in the target", _get(target=b"/echo HTTP/1.1 b")),
    _refused("a tab for a space", b"GET\t/echo\tHTTP/1.1\r\nHost: test\r\n\r\n"),
    _refused("a space behind the version", _get(version=b"HTTP/1.1 ")),
    _refused("a space ahead of the method", b" " + _get()),
    _refused("an empty line of a line feed ahead", b"\n" + _get()),
    _refused("two empty lines ahead", b"\r\n\r\n" + _get()),
    _refused("small letters", _get().replace(b"GET", b"get")),
    _refused("a short method", _get().replace(b"GET", b"GO")),
    _refused("a long method", _get().replace(b"GET", b"G" * 30)),
    _refused("a method with a slash", _get().replace(b"GET", b"GE/T")),
    _refused("http 0.9", b"GET /echo\r\n\r\n"),
    _refused("http 0.9 with its number", _get(version=b"HTTP/0.9")),
    _refused("http 1.2", _get(version=b"HTTP/1.2"), Stock("the stock worker speaks it as if it were 1.1", 200, True)),
    _refused("http 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _refused("http 11", _get(version=b"HTTP/11")),
    _refused("https", _get(version=b"HTTPS/1.1")),
    _refused("control character in the target", _get(target=b"/echo\x01")),
    _refused("delete in the target", _get(target=b"/echo\x7f")),
    _refused("bytes beyond ascii in the target", _get(target=b"/\xc3\xa9")),
    _refused("a fragment", _get(target=b"/echo#part"), Stock("the stock worker cuts it off", 200, True)),
    _refused("a target without a slash", _get(target=b"echo")),
    _refused("a star for a get", _get(target=b"*")),
    _refused("another scheme", _get(target=b"ftp://test/echo"), Stock(_PASSES, 200, True)),
    _refused("an absolute target with a user", _get(target=b"http://u:p@test/echo"), Stock(_PASSES, 200, True)),
    _refused("an absolute target without a host", _get(target=b"http:///echo"), Stock(_PASSES, 200, True)),
    _refused(
        "connect",
        b"CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n",
        Stock("the stock worker has the application answer it", 200),
    ),
    _refused("another expectation", _get(b"Expect: 200-ok")),
    # Bounds.
    _refused("a line too long", _get(target=b"/" + b"a" * 9000), status=414),
    _refused("a line without an end", b"GET /" + b"a" * 9000, status=414),
    _refused("too many headers", _get(*[b"X-%d: y" % number for number in range(101)]), status=431),
    _refused("a header too long", _get(b"X: " + b"a" * 8200), status=431),
    _refused(
        "headers too large together",
        _get(*[b"X-%d: " % number + b"a" * 2000 for number in range(60)]),
        Stock("the stock worker bounds only number and size of headers, 800 kB together", 200, True),
        status=431,
    ),
    _refused(
        "a body too large",
        _post(b"Content-Length: 300000", body=b"a" * 300_000),
        Stock("the stock worker leaves the bound to the application", 200, True),
        status=413,
    ),
    _refused(
        "a chunked body too large",
        _chunked(b"40001\r\n" + b"a" * 0x40001 + b"\r\n0\r\n\r\n"),
        Stock("the stock worker leaves the bound to the application", 200, True),
        status=413,
    ),
    # Chunks.
    _refused("a chunk without a size", _chunked(b"\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a bad size", _chunked(b"xyz\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a marked size", _chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a signed size", _chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a negative size", _chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a space ahead of its size", _chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with a space behind its size", _chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk with an underscore in its size", _chunked(b"1_0\r\nhello\r\n0\r\n\r\n")),
    _refused(
        "a chunk of 2^64 bytes",
        _chunked(b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
        Stock("the stock worker waits for such a body", WAITS),
    ),
    _refused("a chunk longer than its size", _chunked(b"4\r\nhello\r\n0\r\n\r\n")),
    _refused("a chunk that ends with a line feed", _chunked(b"5\r\nhello\n0\r\n\r\n")),
    _refused("a size that ends with a line feed", _chunked(b"5\nhello\r\n0\r\n\r\n")),
    _refused(
        "a chunk extension",
        _chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        Stock("nobody who speaks to an API sends them, and servers have skipped them differently", 200, True),
    ),
    _refused(
        "a chunk extension without a name",
        _chunked(b"5;\r\nhello\r\n0\r\n\r\n"),
    ),
    _refused("a trailer that frames", _chunked(b"0\r\nContent-Length: 5\r\n\r\n")),
    _refused("a trailer that authorizes", _chunked(b"0\r\nAuthorization: a\r\n\r\n")),
    _refused("a trailer without a colon", _chunked(b"0\r\nno colon\r\n\r\n")),
    _refused("a folded trailer", _chunked(b"0\r\nX: a\r\n b\r\n\r\n")),
]
