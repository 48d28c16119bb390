"""What happens by itself: outcomes whose delay is over, and callbacks delivered until they are taken.

A delivery is struck from the books only after a 2xx, so the receiver sees each at least once, also across a kill.
"""

import http.client
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from deploy.sandbox.books import Books, Delivery
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.signing import SIGNATURE_HEADER, signature_header

logger = logging.getLogger(__name__)

_LONGEST_REST_S = 1.0


class Clockwork:
    """One thread that watches the books' due times, and a pool of threads that deliver."""

    def __init__(self, books: Books, configuration: Configuration, *, callback_url: str) -> None:
        self._books = books
        self._callback_url = callback_url
        self._configuration = configuration
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._under_way: set[int] = set()
        self._under_way_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(configuration.delivery_threads, thread_name_prefix="deliver")
        self._thread = threading.Thread(target=self._run, name="clockwork", daemon=True)

    def start(self) -> None:
        """Begin to watch the books."""
        self._thread.start()

    def prompt(self) -> None:
        """Look at the books at once: something may have become due."""
        self._wake.set()

    def stop(self) -> None:
        """End both kinds of threads; what is owed stays in the books."""
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                rest_s = self._look()
            except Exception:
                # The books are on a disk that may be full for a while; the sandbox goes on when it is not.
                logger.exception("the books cannot be read or written; trying again")
                rest_s = _LONGEST_REST_S
            self._wake.wait(rest_s)

    def _look(self) -> float:
        """Do what is due and return how long nothing will be, in seconds."""
        now_s = time.time()
        self._books.settle_due(now_s=now_s)
        # A delivery that ends is first struck from the books and then from the set: under this lock it is seen in one.
        with self._under_way_lock:
            due = [d for d in self._books.due_deliveries(now_s=now_s) if d.number not in self._under_way]
            self._under_way.update(delivery.number for delivery in due)
        for delivery in due:
            self._pool.submit(self._deliver, delivery)
        next_at = self._books.next_due_at()
        if next_at is None:
            return _LONGEST_REST_S
        # A delivery under way is still due in the books; its end prompts.
        return min(max(next_at - time.time(), 0.05), _LONGEST_REST_S)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            status = self._post(delivery.body)
            if 200 <= status < 300:
                self._books.delivered(delivery)
                return
            logger.warning("callback %s answered %s", delivery.number, status)
            self._put_off(delivery)
        except (OSError, http.client.HTTPException) as error:
            logger.warning("callback %s not delivered: %r", delivery.number, error)
            self._put_off(delivery)
        finally:
            with self._under_way_lock:
                self._under_way.discard(delivery.number)

    def _put_off(self, delivery: Delivery) -> None:
        configuration = self._configuration
        delay_s = min(configuration.retry_first_s * 2 ** min(delivery.attempt_count, 16), configuration.retry_longest_s)
        self._books.retry_delivery(delivery, next_at=time.time() + delay_s)

    def _post(self, body: bytes) -> int:
        """Post one callback, signed now, and return the status of the answer."""
        parts = urlsplit(self._callback_url)
        secure = parts.scheme == "https"
        connection_class = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connection_class(parts.netloc, timeout=self._configuration.delivery_timeout_s)
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: signature_header(secret=self._configuration.secret, body=body, at_s=int(time.time())),
        }
        try:
            connection.request("POST", parts.path or "/", body=body, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()
