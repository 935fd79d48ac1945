"""GPUs that NVML lists and that cannot be opened, and when to try each again. Pure.

In: what happened when one was opened. Out: which to try now, and the reason by index. NVML is not initialised again for
them: that would cost the others their events and means, and helps no GPU that is broken. A GPU that could not be opened
has no uuid; `names` gives it that under which it was known before, else `index-N`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

RETRY_S, RETRY_S_MAX = 5.0, 300.0
"""Opening a broken GPU may take the driver seconds."""


@dataclass(slots=True)
class _Attempt:
    reason: str
    pause_s: float
    retry_at_s: float


class UnopenedGpus:
    """By index."""

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def failed(self, index: int, reason: str, now_s: float) -> bool:
        """Whether that is news. The pause doubles from time to time."""
        before = self._attempts.get(index)
        pause_s = RETRY_S if before is None else min(RETRY_S_MAX, 2 * before.pause_s)
        self._attempts[index] = _Attempt(reason, pause_s, now_s + pause_s)
        return before is None or before.reason != reason

    def opened(self, index: int) -> None:
        self._attempts.pop(index, None)

    def forget(self) -> None:
        """NVML was shut down."""
        self._attempts.clear()

    def due(self, now_s: float) -> list[int]:
        """Indices to try now."""
        return [index for index, attempt in self._attempts.items() if now_s >= attempt.retry_at_s]

    def names(self, uuid_of_index: Mapping[int, str], missing: Collection[str]) -> dict[str, int]:
        """Name -> index. `missing`: GPUs that were there before and are not now. One whose index is not known from
        before is one of these, as long as there are any, and has no name of its own."""
        named: dict[str, int] = {}
        nameless = []
        for index in sorted(self._attempts):
            if (uuid := uuid_of_index.get(index, "")) in missing:
                named[uuid] = index
            else:
                nameless.append(index)
        spare = max(0, len(missing) - len(named))
        return named | {f"index-{index}": index for index in nameless[spare:]}

    def reason(self, index: int) -> str:
        """Why it cannot be opened."""
        return self._attempts[index].reason
