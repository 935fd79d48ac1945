"""Readings and token events into windows of additive facts. Pure.

In: spans of time with what each GPU did in them, jumps of the wall clock, token events. Out: `Batch`es without number.

Theory. The node has one *timeline* in Unix milliseconds. `extend` moves its end forward; `jump` moves it elsewhere
when the wall clock was stepped. The timeline is cut into windows at multiples of the window length, and at jumps.
A window's length is therefore exactly the time that was laid on it, and what holds for it is:

* every GPU's states sum to the window's length: a GPU that was not there for a part has that part as `unknown`;
* energy, activity and tokens laid over several windows keep their whole (largest remainder);
* a token event's part before the oldest open window goes into that one, its part after the newest into that one:
  tokens are never dropped for being early or late.

A window may be taken once the timeline has gone `settle_ms` past its end, so that a rate reported at the end of a 10 s
interval still finds the windows that it belongs to. `state` is everything that is not yet taken; a builder restored
from it goes on as if it had never stopped.
"""

from collections.abc import Iterable

import msgspec

from tokenyield_agent.tokens.event import KINDS, TokenEvent
from tokenyield_agent.windows.batch import batch_of
from tokenyield_agent.windows.bounds import Folds
from tokenyield_agent.windows.open_window import OpenWindow, add, add_demand, add_latency, add_tokens, lay_span
from tokenyield_agent.windows.span import GpuSpan
from tokenyield_agent.workloads.workload_name import WorkloadName
from tokenyield_wire.units import MS_PER_HOUR, apportion
from tokenyield_wire.window import LOAD_KINDS, Batch

OPEN_WINDOWS_MAX = 480
"""Two hours of 15 s windows, reached only while the spool cannot be written. Then the
oldest is given up, counted in `WindowBuilder.dropped`: memory on a GPU host is bounded."""


class BuilderState(msgspec.Struct, kw_only=True):
    """All that a builder holds; plain values, for the spool."""

    end_ms: int | None = None
    windows: list[OpenWindow] = msgspec.field(default_factory=list)


class WindowBuilder:
    """The open windows of one node."""

    def __init__(self, *, length_ms: int, settle_ms: int, state: BuilderState | None = None) -> None:
        """Raises ValueError where `length_ms` does not divide an hour."""
        if MS_PER_HOUR % length_ms:
            raise ValueError(f"window length {length_ms} ms does not divide an hour")
        self._length_ms = length_ms
        self._settle_ms = settle_ms
        self._state = msgspec.convert(msgspec.to_builtins(state), BuilderState) if state else BuilderState()
        self.dropped = 0
        self._folds = Folds()

    @property
    def folded(self) -> dict[str, int]:
        """How often something was laid under a common name because a window held too many, by kind of name."""
        return self._folds.counts

    @property
    def end_ms(self) -> int | None:
        """Where the timeline ends; None before anything was laid on it."""
        return self._state.end_ms

    def state(self, *, without: int = 0) -> BuilderState:
        """All open windows, leaving out the `without` oldest."""
        return BuilderState(end_ms=self._state.end_ms, windows=self._state.windows[without:])

    def jump(self, to_ms: int) -> None:
        """The wall clock was stepped (or the builder is new): the timeline goes on at `to_ms`. No time passes."""
        newest = self._state.windows[-1] if self._state.windows else None
        if newest is not None and newest.end_ms == newest.start_ms:
            newest.start_ms = newest.end_ms = to_ms
            newest.grid_end_ms = self._grid_end(to_ms)
        elif newest is not None:
            newest.jumped = True
        self._state.end_ms = to_ms

    def extend(self, to_ms: int, spans: Iterable[GpuSpan]) -> None:
        """Lay what the GPUs did from the timeline's end to `to_ms`."""
        start_ms = self._state.end_ms
        assert start_ms is not None, "jump to where the timeline starts first"
        if to_ms <= start_ms:
            return
        slices = self._slices(start_ms, to_ms)
        for window, length_ms in slices:
            window.end_ms += length_ms
        for span in spans:
            lay_span(span, slices, self._folds)
        self._state.end_ms = to_ms
        while len(self._state.windows) > OPEN_WINDOWS_MAX:
            del self._state.windows[0]
            self.dropped += 1

    def add(self, event: TokenEvent) -> None:
        """Lay a token event over the windows that it overlaps."""
        windows = self._state.windows or [self._window_at_end()]
        overlaps_ms = [max(0, min(w.end_ms, event.end_ms) - max(w.start_ms, event.start_ms)) for w in windows]
        overlaps_ms[0] += max(0, min(event.end_ms, windows[0].start_ms) - event.start_ms)
        overlaps_ms[-1] += max(0, event.end_ms - max(event.start_ms, windows[-1].end_ms))
        if not any(overlaps_ms):  # an instant, or a stretch that a jump took out of the timeline
            at = max((i for i, w in enumerate(windows) if w.start_ms <= event.start_ms), default=0)
            overlaps_ms[at] = 1
        if event.latency is not None:
            add_latency(windows[overlaps_ms.index(max(overlaps_ms))], event.workload, event.latency, self._folds)
            return
        parts = {
            kind: apportion(whole, overlaps_ms)
            for kind in (*KINDS, *LOAD_KINDS)
            if (whole := getattr(event.counts, kind)) is not None
        }
        for i, window in enumerate(windows):
            if overlaps_ms[i]:
                part_of = {kind: part[i] for kind, part in parts.items()}
                if event.counts.caller is not None:
                    add_demand(window, event.workload, event.counts.caller, part_of, self._folds)
                else:
                    add_tokens(window, event.workload, event.counts, part_of, self._folds)

    def add_host_energy(self, mj: int, source: str) -> None:
        """Lay what the host used on the newest window."""
        window = self._state.windows[-1] if self._state.windows else self._window_at_end()
        add(window.host_mj, source, mj)

    def ready(self, *, flush: bool = False) -> int:
        """How many of the oldest windows may be taken now; when `flush`, all that have any length."""
        windows = self._state.windows
        if flush:
            # A window without length has tokens but no time yet; it stays, and goes on after the restart.
            return len(windows) - bool(windows and windows[-1].end_ms == windows[-1].start_ms)
        # Nothing more can be laid on windows before a jump.
        ready = max((i + 1 for i, window in enumerate(windows[:-1]) if window.jumped), default=0)
        end_ms = self._state.end_ms or 0
        while ready < len(windows) and end_ms >= windows[ready].grid_end_ms + self._settle_ms:
            ready += 1
        return ready

    def batches(self, count: int, names: dict[str, WorkloadName], first_seq: int) -> list[Batch]:
        """The `count` oldest windows as batches numbered from `first_seq`. They stay open until `discard`."""
        return [batch_of(window, names, first_seq + i) for i, window in enumerate(self._state.windows[:count])]

    def discard(self, count: int) -> None:
        """Forget the `count` oldest windows: they are safe in the spool."""
        del self._state.windows[:count]

    def _slices(self, start_ms: int, to_ms: int) -> list[tuple[OpenWindow, int]]:
        slices = []
        while start_ms < to_ms:
            window = self._window_at(start_ms)
            length_ms = min(to_ms, window.grid_end_ms) - start_ms
            slices.append((window, length_ms))
            start_ms += length_ms
        return slices

    def _window_at(self, at_ms: int) -> OpenWindow:
        """The newest window if it goes on at `at_ms`, else a new one there."""
        newest = self._state.windows[-1] if self._state.windows else None
        if newest is not None and not newest.jumped and at_ms < newest.grid_end_ms:
            return newest
        window = OpenWindow(start_ms=at_ms, end_ms=at_ms, grid_end_ms=self._grid_end(at_ms))
        self._state.windows.append(window)
        return window

    def _grid_end(self, at_ms: int) -> int:
        return at_ms - at_ms % self._length_ms + self._length_ms

    def _window_at_end(self) -> OpenWindow:
        assert self._state.end_ms is not None, "jump to where the timeline starts first"
        return self._window_at(self._state.end_ms)
