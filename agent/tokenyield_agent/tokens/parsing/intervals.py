"""Rates that a server prints from time to time, into whole tokens. Pure.

Tokens = rate x interval, where the interval is the time since the same engine's last statistics. Timestamps have whole
seconds, so a spacing within one second of the usual interval *is* the usual one. Another interval set by the operator
is learned once three spacings in a row agree on it. A much longer spacing is silence, not work: servers that print
nothing while idle do not spread their next rate over it, and the usual interval is taken. Fractions of a token go to
the engine's next line, so that nothing is lost to rounding.
"""

from typing import Any

from tokenyield_agent.tokens.event import SPAN_S_MAX

RESOLUTION_S = 1.0
LEARN_FROM = 3
ENGINES_MAX = 1024
"""Of one log: more than any data-parallel server has, so that memory stays bounded whatever a log holds."""


class RateIntervals:
    """Each engine's last statistics. `engine` is whatever distinguishes the lines of one from those of another."""

    def __init__(self) -> None:
        self._engines: dict[str, dict[str, Any]] = {}

    def clear(self) -> None:
        self._engines = {}

    def tokens(
        self,
        engine: str,
        at_s: float,
        rates: tuple[float, ...],
        *,
        nominal_s: float,
        silence_factor: float,
        is_timed: bool = True,
    ) -> tuple[float, list[int]]:
        """(interval in seconds, tokens of each rate) of a line at `at_s`, which is its own time where `is_timed`. A
        line that is there twice makes no tokens."""
        last = self._engines.get(engine)
        if last is None:
            if len(self._engines) >= ENGINES_MAX:
                self._engines.clear()
            last = self._engines[engine] = {"at_s": None, "spacings_s": [], "fractions": [0.0] * len(rates)}
        if is_timed and last["at_s"] == at_s and last.get("rates") == [*rates]:
            return 0.0, [0] * len(rates)
        last["rates"] = [*rates]
        spacing_s = None if last["at_s"] is None else at_s - last["at_s"]
        interval_s = _interval(spacing_s, last["spacings_s"], nominal_s, silence_factor)
        last["at_s"] = at_s
        if spacing_s is not None:
            last["spacings_s"] = [*last["spacings_s"], spacing_s][-LEARN_FROM:]
        exact = [rate * interval_s + fraction for rate, fraction in zip(rates, last["fractions"], strict=True)]
        last["fractions"] = [tokens % 1 for tokens in exact]
        return interval_s, [int(tokens) for tokens in exact]

    def state(self) -> dict[str, Any]:
        return {engine: dict(last) for engine, last in self._engines.items()}

    def restore(self, state: dict[str, Any]) -> None:
        self._engines = {engine: dict(last) for engine, last in state.items()}


def _interval(spacing_s: float | None, earlier_s: list[float], nominal_s: float, silence_factor: float) -> float:
    """The seconds over which the engine took the rates of this line."""
    usual_s = nominal_s
    is_steady = len(earlier_s) == LEARN_FROM and max(earlier_s) - min(earlier_s) <= RESOLUTION_S
    if is_steady and 0 < min(earlier_s) < SPAN_S_MAX:
        learned_s = sorted(earlier_s)[LEARN_FROM // 2]
        if abs(learned_s - usual_s) > RESOLUTION_S:
            usual_s = learned_s
    if spacing_s is None or spacing_s <= 0 or spacing_s > usual_s * silence_factor:
        return usual_s
    return usual_s if abs(spacing_s - usual_s) <= RESOLUTION_S else spacing_s
