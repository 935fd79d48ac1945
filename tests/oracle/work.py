"""What was done in an hour, piece by piece: by server, place, model and caller. Plain Python.

How things are divided is said at the head of `ledger/usage.py` and in docs/money.md (reference pace, gateways).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from math import floor
from typing import NamedTuple

from oracle.facts import DAY_MS, HOUR_MS, KINDS, TOKENS, Facts, GpuPlace, Held, HourFacts, Made, Server
from oracle.gateways import left_out
from oracle.lines import ONE
from oracle.people import People
from oracle.terms import ZERO, Terms, amount

Instance = tuple[str, str, int]
"""Model, GPU, how many."""
Node = tuple[str, str]
PROMPT = ("prompt_computed", "prompt_cached", "prompt_unsplit")


@dataclass
class Piece:
    """What one server did in one place for one of its models, perhaps for one caller."""

    server: Server
    place: GpuPlace | None
    model: str
    gpus: int
    times: dict[str, Decimal]
    """As `Held`; later active_… is productive_… and under_yield_…."""
    counts: dict[str, Decimal]
    known: set[str]
    is_split: bool
    """Whether its times are part of a whole."""
    is_token_split: bool
    caller: dict[str, str] = field(default_factory=dict)
    unrated_ms: Decimal = ZERO
    pace_slip: Decimal = ZERO

    def units(self, weights: Mapping[str, Decimal]) -> Decimal:
        """Weighted tokens."""
        return sum((weights[kind] * self.counts[kind] for kind in TOKENS), ZERO)

    def part(self, part: Decimal) -> "Piece":
        """So much of it."""
        return self if part == 1 else _part(self, [part] * 4, self.caller)


class Pace(NamedTuple):
    """In thousandths of weighted tokens a GPU-second, a whole number, and where it is from."""

    units: int
    source: str
    is_exact: bool
    hour_ms: int | None = None


class Work:
    """Of a ledger, seen by a policy; paces are those of a period."""

    def __init__(self, facts: Facts, terms: Terms, people: People, start_ms: int, end_ms: int) -> None:
        self.terms, self.people = terms, people
        self.start_ms, self.end_ms = start_ms, end_ms
        self._facts = facts
        self.paces, self.node_paces = self._paces()
        self._left_out = left_out(facts, people)

    def of(self, hour_ms: int, hour: HourFacts) -> Iterator[Piece]:
        return self._by_callers(hour_ms - hour_ms % DAY_MS, hour, list(self._rated(self._pieces(hour))))

    def _pieces(self, hour: HourFacts) -> Iterator[Piece]:
        """By place and model: tokens by active time, time by weighted tokens."""
        for server in sorted({*hour.held, *hour.made}):
            held = hour.held.get(server) or {}
            made = hour.made.get(server) or {"": Made()}
            active_ms = sum(one.active_ms for one in held.values())
            units = {
                model: sum((self.terms.weights[kind] * one.counts[kind] for kind in TOKENS), ZERO)
                for model, one in made.items()
            }
            whole = sum(units.values(), ZERO)
            places: list[GpuPlace | None] = [*sorted(held)] or [None]
            for number, place in enumerate(places):
                own = held[place] if place is not None else Held()
                here = Decimal(own.active_ms) / active_ms if active_ms else Decimal(number == 0)
                for rank, model in enumerate(sorted(made)):
                    part = units[model] / whole if whole else Decimal(rank == 0)
                    yield Piece(
                        server=server, place=place, model=model, gpus=len(own.gpus),
                        times={name: value * part for name, value in vars(own).items() if name != "gpus"},
                        counts={kind: made[model].counts[kind] * here for kind in KINDS},
                        known=set(made[model].known),
                        is_split=0 < part < 1, is_token_split=0 < here < 1,
                    )  # fmt: skip

    def _paces(self) -> tuple[dict[Instance, Pace], dict[tuple[Instance, Node], Pace]]:
        """Configured, or learned from the best hours of which each GPU worked at least half: for all, and by node."""
        rules = self.terms.document.get("reference_rates") or {}
        learns, days = rules.get("learn", True), rules.get("learn_days", 30)
        since_ms = min(self.start_ms, self.end_ms - days * DAY_MS) if learns else self.start_ms
        paces: dict[Instance, Pace] = {}
        best: dict[Instance, dict[Node, dict[int, Pace]]] = defaultdict(lambda: defaultdict(dict))
        per_token = int(self.terms.weights["completion"] * 1000)
        for hour_ms in sorted(self._facts.hours):
            if not since_ms <= hour_ms < self.end_ms:
                continue
            for piece in self._pieces(self._facts.hours[hour_ms]):
                active_ms = piece.times["active_ms"]
                if piece.place is None or not active_ms:
                    continue
                instance = piece.model, piece.place.gpu, piece.gpus
                fits = next((one for one in rules.get("configured") or () if _is_about(one, instance)), None)
                if fits is not None:
                    pace = round(amount(fits["tokens_per_second"]) * per_token / piece.gpus)
                    paces[instance] = Pace(max(1, pace), "configured", True)
                elif learns and piece.model and active_ms * 2 >= HOUR_MS * piece.gpus:
                    pace = floor(piece.units(self.terms.weights) * 1000 * 1000 / active_ms)
                    of_days = best[instance][piece.place.cluster, piece.place.node]
                    day_ms = hour_ms // DAY_MS
                    if pace and (day_ms not in of_days or pace > of_days[day_ms].units):
                        is_exact = not (piece.is_split or piece.is_token_split)
                        of_days[day_ms] = Pace(pace, "learned", is_exact, hour_ms)
        node_paces: dict[tuple[Instance, Node], Pace] = {}
        for instance, nodes in best.items():
            tops = sorted((max(of_days.values()) for of_days in nodes.values() if of_days), reverse=True)
            threes = [tops[i : i + 3] for i in range(len(tops) - 2)]
            three = next((three for three in threes if 4 * three[2].units >= 3 * three[0].units), None)
            if three is not None:
                paces[instance] = three[2]
                continue
            for node, of_days in nodes.items():
                if len(of_days) >= 2:
                    node_paces[instance, node] = sorted(of_days.values())[-2]
        return paces, node_paces

    def _rated(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Active time is productive up to what its tokens take at the pace."""
        for piece in pieces:
            instance = piece.model, piece.place.gpu if piece.place else "", piece.gpus
            pace, active_ms = self.paces.get(instance), piece.times["active_ms"]
            if pace is None and piece.place is not None:
                pace = self.node_paces.get((instance, (piece.place.cluster, piece.place.node)))
            reached = ONE
            if pace is None:
                piece.unrated_ms = active_ms
            elif active_ms:
                reached = min(ONE, piece.units(self.terms.weights) * 10**6 / pace.units / active_ms)
                piece.pace_slip = ONE + (0 if pace.is_exact else active_ms * 2 / pace.units)
                if piece.is_token_split:  # by up to a token of each kind, which take time at the pace
                    piece.pace_slip += sum(self.terms.weights.values(), ZERO) * 10**6 / pace.units
            for unit in ("ms", "mj"):
                active = piece.times.pop(f"active_{unit}")
                piece.times[f"productive_{unit}"] = active * reached
                piece.times[f"under_yield_{unit}"] = active * (1 - reached)
            yield piece

    def _by_callers(self, day_ms: int, hour: HourFacts, pieces: list[Piece]) -> Iterator[Piece]:
        """Each caller has the share of the model's weighted tokens that it requested in that hour and cluster."""
        asked: dict[tuple[str, str], dict[str, Made]] = defaultdict(lambda: defaultdict(Made))
        for (cluster, named), callers in hour.asked.items():
            model = self.people.aliases.get(named, named)
            for (gateway, caller), made in callers.items():
                if (day_ms, cluster, model, gateway) not in self._left_out:
                    asked[cluster, model][caller].add({kind: made.counts[kind] for kind in made.known})
        by_model: dict[tuple[str, str], list[Piece]] = defaultdict(list)
        for piece in pieces:
            by_model[piece.server.cluster, piece.model].append(piece)
        for served_model, own in by_model.items():
            demands = {who: self._measures(wish.counts) for who, wish in asked.get(served_model, {}).items()}
            demands = {who: demand for who, demand in demands.items() if demand[0] > 0}
            if not demands:
                yield from own
                continue
            served = [
                sum(values, ZERO) for values in zip(*(self._measures(piece.counts) for piece in own), strict=True)
            ]
            wanted = [sum(values, ZERO) for values in zip(*demands.values(), strict=True)]
            whole = [max(pair) for pair in zip(served, wanted, strict=True)]
            for piece in own:
                shares = {
                    who: [_over(d, w) for d, w in zip(demand, whole, strict=True)] for who, demand in demands.items()
                }
                for who, parts in shares.items():
                    yield _part(piece, parts, json.loads(who))
                yield _part(piece, [ONE - sum(column, ZERO) for column in zip(*shares.values(), strict=True)], {})

    def _measures(self, counts: Mapping[str, int | Decimal]) -> list[Decimal]:
        """By what things are shared: time by weighted tokens, tokens and requests each by their own."""
        weights = self.terms.weights
        return [
            sum((weights[kind] * counts[kind] for kind in TOKENS), ZERO),
            sum((Decimal(counts[kind]) for kind in PROMPT), ZERO),
            Decimal(counts["completion"]),
            Decimal(counts["requests"]),
        ]


def _part(piece: Piece, parts: list[Decimal], caller: dict[str, str]) -> Piece:
    by_time, prompt, completion, requests = parts
    share = {**dict.fromkeys(PROMPT, prompt), "completion": completion, "requests": requests}
    return Piece(
        server=piece.server, place=piece.place, model=piece.model, gpus=piece.gpus,
        times={name: value * by_time for name, value in piece.times.items()},
        counts={kind: value * share[kind] for kind, value in piece.counts.items()},
        known=piece.known, is_split=True, is_token_split=True, caller=caller,
        unrated_ms=piece.unrated_ms * by_time, pace_slip=piece.pace_slip,
    )  # fmt: skip


def _over(value: Decimal, whole: Decimal) -> Decimal:
    return value / whole if whole else ZERO


def _is_about(entry: Mapping[str, object], instance: tuple[str, str, int]) -> bool:
    model, gpu, gpus = instance
    return (
        fnmatchcase(model, str(entry.get("model", "*")))
        and fnmatchcase(gpu, str(entry.get("gpu", "*")))
        and entry.get("gpus") in (None, gpus)
    )
