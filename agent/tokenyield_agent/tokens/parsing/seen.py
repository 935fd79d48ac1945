"""What of a log was counted before, so that a line that comes again counts once. Bounded. Pure.

Gateways write a request twice (LiteLLM has, for streams), shippers send lines again after a restart, and a batch is
reported with its whole usage at each poll. Only digests are kept: an id may be a client's own text.
"""

import base64
from typing import Any

from tokenyield_agent.tokens.parsing.origins import DIGEST_BYTES, digest, raw_digest

LINES_MAX = 4096
"""Remembered while the agent runs: more than a shipper sends again."""
LINES_KEPT = 512
"""Of these, over the agent's restart: the state is written with each window."""
JOBS_MAX = 256
_PROMPT = {"prompt_computed", "prompt_cached", "prompt_unsplit"}


class SeenLines:
    """The newest lines that have an id."""

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}

    def is_new(self, identity: bytes) -> bool:
        """Whether it was not seen before; from now on it was."""
        known_by = raw_digest(identity)
        is_new = known_by not in self._digests
        self._digests.pop(known_by, None)
        self._digests[known_by] = None
        if len(self._digests) > LINES_MAX:
            del self._digests[next(iter(self._digests))]
        return is_new

    def state(self) -> str:
        return base64.b64encode(b"".join(list(self._digests)[-LINES_KEPT:])).decode()

    def restore(self, state: str) -> None:
        raw = base64.b64decode(state)
        starts = range(0, len(raw), DIGEST_BYTES)
        self._digests = {raw[start : start + DIGEST_BYTES]: None for start in starts}


class CountedJobs:
    """What was counted of each batch, whose usage is reported as a total, again and again."""

    def __init__(self) -> None:
        self._counted: dict[str, dict[str, int]] = {}

    def growth(self, job: bytes, kinds: dict[str, int]) -> dict[str, int]:
        """What of `kinds` was not counted yet, and empty where all was; from now on it is. A prompt that is divided
        otherwise than before is left out: it cannot be compared."""
        key = digest(job)
        before = self._counted.pop(key, {})
        if before and _PROMPT & before.keys() != _PROMPT & kinds.keys():
            kinds = {kind: count for kind, count in kinds.items() if kind not in _PROMPT}
        grown = {kind: max(0, count - before.get(kind, 0)) for kind, count in kinds.items()}
        self._counted[key] = {**before, **{kind: max(count, before.get(kind, 0)) for kind, count in kinds.items()}}
        if len(self._counted) > JOBS_MAX:
            del self._counted[next(iter(self._counted))]
        return grown if any(grown.values()) else {}

    def state(self) -> dict[str, dict[str, int]]:
        return {job: dict(kinds) for job, kinds in self._counted.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self._counted = {job: dict(kinds) for job, kinds in state.items()}
