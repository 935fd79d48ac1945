"""Reports to systemd where it started us with Type=notify (sd_notify(3)); elsewhere nothing happens."""

import logging
import os
import socket

log = logging.getLogger(__name__)

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"


def notify(message: str) -> None:
    """Never raises: a watcher that is gone is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            log.debug("sd_notify: %s", error)


def watchdog_s() -> float | None:
    """How often to send `ALIVE`: half of the unit's WatchdogSec; None without a watchdog."""
    watchdog_us = os.environ.get("WATCHDOG_USEC", "")
    return int(watchdog_us) / 2e6 if watchdog_us.isdigit() and int(watchdog_us) else None
