"""`python -m deploy.sandbox`: runs the sandbox until it is told to stop."""

import logging
import signal
import sys
import threading
from types import FrameType

from deploy.sandbox.configuration import ConfigurationError, from_environment
from deploy.sandbox.server import Sandbox


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the process's exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        configuration = from_environment()
    except ConfigurationError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    sandbox = Sandbox(configuration)

    def stop(signum: int, frame: FrameType | None) -> None:
        # shutdown() waits for serve_forever, which runs in this very thread.
        threading.Thread(target=sandbox.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    logging.info(
        "sandbox on %s, callbacks to %s and %s",
        configuration.public_url,
        configuration.callback_url,
        configuration.track_url,
    )
    with sandbox:
        sandbox.serve_forever(poll_interval=0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
