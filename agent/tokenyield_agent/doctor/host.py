"""Whether the agent can keep its state on this host, and reach its collector."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tokenyield_agent.config import Settings
from tokenyield_agent.doctor.report import DoctorFinding
from tokenyield_agent.shipping.collector_link import UnusableSetting, context_of

ANSWER_S = 5


def findings_of_state_dir(settings: Settings) -> Iterator[DoctorFinding]:
    """Whether `state_dir` can be written and has room for the spool."""
    folder = Path(settings.state_dir)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        fix = "create it and give it to the agent"
        yield DoctorFinding("fault", "state", f"{folder} cannot be written by this user: {fix}")
        return
    free = os.statvfs(existing)
    free_bytes = free.f_bavail * free.f_frsize
    if free_bytes < settings.spool_bytes_max:
        text = f"{folder} has {free_bytes >> 20} MiB free, the spool may take {settings.spool_bytes_max >> 20} MiB"
        yield DoctorFinding("note", "state", text)
    else:
        yield DoctorFinding("ok", "state", f"{folder} is writable")


def findings_of_collector(settings: Settings) -> Iterator[DoctorFinding]:
    """Whether the collector answers; waits up to `ANSWER_S`."""
    url = f"{settings.collector_url.rstrip('/')}/readyz"
    try:
        context = context_of(settings) if url.startswith("https:") else None
    except UnusableSetting as error:
        yield DoctorFinding("fault", "collector", str(error))
        return
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S, context=context) as answer:  # noqa: S310 - the settings checked the scheme
            yield DoctorFinding("ok", "collector", f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        yield DoctorFinding("fault", "collector", f"{url} answers {error.code}: see the collector's log")
    except OSError as error:
        fix = "check collector_url, collector_ca_file and the network; batches wait in the spool until it answers"
        yield DoctorFinding("fault", "collector", f"{url} does not answer ({error}): {fix}")
