"""How good forecasts are, on made-up series with fresh seeds: pinball loss, what the 80 % band covers, errors of totals.

`python bench/forecast.py --seed 1 --series 20` prints JSON: for each kind of series and on the mean of kinds, this
project's method beside the seasonal naive one; with `--auto-ets`, beside AutoETS too, where statsforecast is installed
(it is no dependency: `python3 -m venv /tmp/sf && /tmp/sf/bin/pip install statsforecast`, then
`PYTHONPATH=collector:agent /tmp/sf/bin/python bench/forecast.py --auto-ets …`).
Score: twice the pinball loss over the quantiles .1, .5, .9 of days, over the mean of the days to come; lower is better.
Bars of issue 26: 25 % below the seasonal naive and not above AutoETS; 80 % bands cover 70 to 90 % over all kinds, none
below 55 %; 1,000 series within 60 s of two cores.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tokenyield_collector.insight.forecasting import QUANTILES, Floats, forecast

KNOWN_DAYS, AHEAD_DAYS, WEEK = 98, 28, 7
Make = Callable[[Floats, np.random.Generator], Floats]


def _weekly(t: Floats, rest: float) -> Floats:
    return np.where(t % WEEK >= 5, rest, 1.0)


def _noise(t: Floats, chosen: np.random.Generator, size: float) -> Floats:
    return np.exp(chosen.normal(0, size, len(t)))


def _stepped(t: Floats, chosen: np.random.Generator) -> Floats:
    at, factor = chosen.integers(30, 75), chosen.choice([0.4, 0.6, 1.7, 2.5])
    return 900 * np.where(t >= at, factor, 1.0) * _weekly(t, 0.5) * _noise(t, chosen, 0.1)


def _spiky(t: Floats, chosen: np.random.Generator) -> Floats:
    made = 900 * _weekly(t, 0.6) * _noise(t, chosen, 0.1)
    made[chosen.choice(len(t), len(t) // 25, replace=False)] *= chosen.uniform(2, 4)
    return made


def _walking(t: Floats, chosen: np.random.Generator) -> Floats:
    return 700 * np.exp(np.cumsum(chosen.normal(0, 0.03, len(t)))) * _weekly(t, 0.7)


def _agents(t: Floats, chosen: np.random.Generator) -> Floats:
    """Coding agents: nothing at weekends, more people every week, a lull in one of the weeks."""
    lull = chosen.integers(20, 80)
    quiet = np.where((t >= lull) & (t < lull + WEEK), 0.3, 1.0)
    return 200 * (1 + 0.01 * t) * _weekly(t, 0.0) * quiet * _noise(t, chosen, 0.25)


def _month_ends(t: Floats, chosen: np.random.Generator) -> Floats:
    return 600 * _weekly(t, 0.5) * np.where(t % 30 >= 27, 1.8, 1.0) * _noise(t, chosen, 0.12)


KINDS: dict[str, Make] = {
    "even": lambda t, chosen: 800 * _weekly(t, 0.45) * _noise(t, chosen, 0.12),
    "owned fleet": lambda t, chosen: 1200 * np.where(t >= chosen.integers(20, 70), 1.2, 1.0) * _noise(t, chosen, 0.01),
    "growing": lambda t, chosen: (
        400 * np.exp(chosen.uniform(0.004, 0.012) * t) * _weekly(t, 0.5) * _noise(t, chosen, 0.15)
    ),
    "shrinking": lambda t, chosen: 900 * np.exp(-0.006 * t) * _weekly(t, 0.6) * _noise(t, chosen, 0.12),
    "line": lambda t, chosen: (500 + 8 * t) * _weekly(t, 0.5) * _noise(t, chosen, 0.12),
    "stepped": _stepped,
    "spiky": _spiky,
    "walking": _walking,
    "agents": _agents,
    "month ends": _month_ends,
    "no weekdays": lambda t, chosen: 300 * _noise(t, chosen, 0.3),
    "seldom": lambda t, chosen: np.where(chosen.random(len(t)) < 0.35, 500 * _noise(t, chosen, 0.3), 0.0),
}


def series(kind: str, seed: int, number: int, days: int = KNOWN_DAYS + AHEAD_DAYS) -> Floats:
    chosen = np.random.default_rng([seed, number, *kind.encode()])
    return KINDS[kind](np.arange(days, dtype=np.float64), chosen)


def seasonal_naive(known: Floats, days: int) -> Floats:
    """The last week again, with the spread of week over week."""
    middle = known[len(known) - WEEK + np.arange(days) % WEEK]
    spread = np.sqrt(np.arange(days) // WEEK + 1)
    errors = known[WEEK:] - known[:-WEEK]
    return np.array(
        [np.maximum(middle + np.quantile(errors, 0.1) * spread, 0), middle, middle + np.quantile(errors, 0.9) * spread]
    )


def pinball(path: Floats, came: Floats) -> float:
    losses = [
        np.mean(np.maximum(level * (came - q), (level - 1) * (came - q)))
        for level, q in zip(QUANTILES, path, strict=True)
    ]
    return float(2 * np.mean(losses) / came.mean())


def auto_ets(known: Floats, days: int) -> Floats:
    from statsforecast.models import AutoETS  # type: ignore[import-not-found]  # of the bench only

    made = AutoETS(season_length=WEEK).forecast(y=known, h=days, level=[80])
    return np.array([np.maximum(made["lo-80"], 0), made["mean"], made["hi-80"]])


CPU_S: dict[str, float] = {"own": 0.0, "auto_ets": 0.0}


def _timed(name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    began = time.process_time()
    made = make(*arguments)
    CPU_S[name] += time.process_time() - began
    return made


def judged(kind: str, seed: int, count: int, with_auto_ets: bool = False) -> dict[str, float]:
    """The means over `count` series of a kind."""
    rows = []
    for number in range(count):
        whole = series(kind, seed, number)
        known, came = whole[:KNOWN_DAYS], whole[KNOWN_DAYS:]
        made = _timed("own", forecast, known.tolist(), [AHEAD_DAYS])
        assert made is not None
        total, sum_came = made.totals[0], came.sum()
        rows.append(
            {
                "pinball": pinball(made.path, came),
                "naive": pinball(seasonal_naive(known, AHEAD_DAYS), came),
                "days_within": float(np.mean((came >= made.path[0] - 1e-9) & (came <= made.path[2] + 1e-9))),
                "totals_within": float(total.p10 <= sum_came <= total.p90),
                "total_width": (total.p90 - total.p10) / sum_came,
                "total_error": abs(total.p50 - sum_came) / sum_came,
            }
        )
        if with_auto_ets:
            other = _timed("auto_ets", auto_ets, known, AHEAD_DAYS)
            rows[-1]["auto_ets"] = pinball(other, came)
            rows[-1]["auto_ets_days_within"] = float(np.mean((came >= other[0]) & (came <= other[2])))
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True, help="one that was not used while the method was changed")
    parser.add_argument("--series", type=int, default=20, help="of each kind")
    parser.add_argument("--auto-ets", action="store_true", help="judge statsforecast's AutoETS on the same series")
    arguments = parser.parse_args()
    kinds = {kind: judged(kind, arguments.seed, arguments.series, arguments.auto_ets) for kind in KINDS}
    means: dict[str, Any] = {
        name: round(float(np.mean([one[name] for one in kinds.values()])), 3) for name in kinds["even"]
    }
    means["below_naive"] = round(1 - means["pinball"] / means["naive"], 3)
    count = arguments.series * len(KINDS)
    cpu_s = {name: round(spent / count * 1000, 1) for name, spent in CPU_S.items() if spent}
    print(json.dumps({"seed": arguments.seed, "series": count, "kinds": kinds, "mean": means,
                      "cpu_s_per_1000": cpu_s}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
