"""What a daily series will come to: quantiles of totals, and of days, with the method and its own back-test. Pure.

In: amounts by day, the newest last, all of complete days. Out: p10, p50 and p90 of the total of each horizon, and of
each day up to the longest.

* A weekday shape (medians of ratios to a centred mean) and a level after the last shift of it (medians compared).
* Candidates: a level, two paces of smoothing, a trend, a damped one, a line. The two that were best at rolling origins
  are averaged (geometrically).
* The band of a total is made of errors of totals at these origins, not of quantiles of days: those would add up to far
  too wide a band (measured: 0.97 covered at 0.79 of the total, against 0.82 at 0.33). It is at least what the noise of
  days leaves, and widens by the level's own wandering.
* A series of which many days are 0 has totals of days drawn from its own. One that is quiet for longer than ever before
  may have ended: its band begins at 0. One that ended has none.

Too little history is said, not guessed: under `DAYS_MIN` days there is no forecast, under three weeks no weekday shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DAYS_MIN = 7
WEEK = 7
SHAPE_FROM_DAYS = 3 * WEEK
SPARSE_FROM = 0.4
"""The part of days without anything from which on a series is sparse."""
LULL_FROM_DAYS = 3
ENDED_FROM_DAYS = 2 * WEEK
"""Without anything: and for longer, and three times as long, as ever before."""
QUANTILES = (0.1, 0.5, 0.9)
Z80 = 1.2815515655446004
"""Of the normal distribution: 80 % lie within this many standard deviations."""
BACK_TEST_DAYS = 28
BACK_TESTS_MAX = 12
ORIGINS = 16
"""At which methods are tried, at least, where there are as many days; at most twice as many."""
BIAS_FROM_ORIGINS = 6
SHIFT_SCORE = 8.0
"""How many standard errors two medians differ by where the level shifted."""
_REST_BELOW = 0.02
"""The factor of a weekday on which nothing happens."""
SLOPE_MAX = 0.1
"""Of a trend, a day: twice as much in a week."""
_MAD = 1.4826022185056018
_TINY = 1e-9
_SCORE_DIGITS = 6
_DRAWS = 2_000
_SEED = 20261128


class Band(NamedTuple):
    """Quantiles of a total."""

    days: int
    p10: float
    p50: float
    p90: float


class BackTest(NamedTuple):
    """How the same method did at earlier days: totals of so many days at so many origins; the median of their absolute
    errors, as a part of what was forecast, and how many lay within the band. Each forecast knew only the days before
    it."""

    days: int
    origins: int
    median_error: float
    within: int


class DailyForecast(NamedTuple):
    """`path`: (3, days) quantiles of each day, for a plot."""

    method: str
    history_days: int
    totals: list[Band]
    path: Floats
    back_test: BackTest | None


def forecast(values: Sequence[float], horizons: Sequence[int]) -> DailyForecast | None:
    """None where there is too little history. Amounts below 0 count as 0."""
    y = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
    y = y[np.argmax(y > 0) :] if (y > 0).any() else y[:0]
    days = max(horizons)
    if len(y) < DAYS_MIN:
        return None
    there = np.flatnonzero(y > 0)
    quiet, longest = len(y) - 1 - int(there[-1]), int(np.max(np.diff(there), initial=1)) - 1
    if quiet >= max(ENDED_FROM_DAYS, 3 * longest):
        none = [Band(h, 0.0, 0.0, 0.0) for h in horizons]
        return DailyForecast("nothing any more", len(y), none, np.zeros((3, days)), None)
    if quiet >= LULL_FROM_DAYS and quiet > longest and len(y) - quiet >= DAYS_MIN:
        return _in_lull(y[: len(y) - quiet], quiet, horizons)
    return _going_on(y, horizons)


def _going_on(y: Floats, horizons: Sequence[int]) -> DailyForecast:
    if np.mean(y <= 0) > SPARSE_FROM:
        return _sparse(y, horizons)
    trials = _trials(y, max(horizons))
    fitted = _Fitted(y, trials)
    return DailyForecast(
        fitted.method,
        len(y),
        [fitted.total(h) for h in horizons],
        fitted.path(),
        _back_test(y, trials, min(BACK_TEST_DAYS, max(WEEK, len(y) // 4))),
    )


def _in_lull(before: Floats, quiet: int, horizons: Sequence[int]) -> DailyForecast:
    """Nothing comes, for longer than ever before: it may have ended, or go on as before. The upper end of the band is
    what would come if it goes on; from a week on the median is that it has ended."""
    goes_on = _going_on(np.concatenate([before, _going_on(before, [quiet]).path[1]]), horizons)
    part = 1.0 if quiet < WEEK else 0.0
    totals = [Band(one.days, 0.0, one.p50 * part, one.p90) for one in goes_on.totals]
    path = goes_on.path * np.array([[0.0], [part], [1.0]])
    return DailyForecast(f"quiet for {quiet} days", len(before) + quiet, totals, path, None)


# --- parts -------------------------------------------------------------------------------------------------------


def weekday_shape(y: Floats) -> Floats:
    """Factors of the days of a week, by their place in `y`; their mean is 1."""
    if len(y) < SHAPE_FROM_DAYS:
        return np.ones(WEEK)
    ratio = y / np.maximum(_centred(y), _TINY)
    shape = np.array([np.median(ratio[i::WEEK]) for i in range(WEEK)])
    return shape * WEEK / shape.sum() if shape.sum() > 0 else np.ones(WEEK)


def _centred(y: Floats) -> Floats:
    """The mean of the week around each day; at the ends, of the first and of the last."""
    sums = np.concatenate([[0.0], np.cumsum(y)])
    means = (sums[WEEK:] - sums[:-WEEK]) / WEEK
    return np.concatenate([np.full(WEEK // 2, means[0]), means, np.full(WEEK // 2, means[-1])])


def without_weekdays(y: Floats, shape: Floats) -> Floats:
    """Each day as if it were of the mean weekday; of a weekday on which nothing happens, the mean of the week."""
    factors = shape[np.arange(len(y)) % WEEK]
    works = factors > _REST_BELOW
    z = y / np.where(works, factors, 1.0)
    return z if works.all() else np.where(works, z, _centred(y))


def last_shift(x: Floats) -> int:
    """Where the newest level of a series (of logarithms, without weekdays) begins; 0 where it never shifted."""
    start = 0
    for _ in range(4):
        part = x[start:]
        k = len(part)
        if k < 4 * WEEK:
            break
        steps = np.diff(part)
        noise = _MAD * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2) + _TINY
        cuts = np.arange(2 * WEEK, k - 2 * WEEK + 1)
        widths = np.minimum(4 * WEEK, np.minimum(cuts, k - cuts))
        halves = widths // 2
        starts = np.concatenate([cuts - widths, cuts, cuts - halves, cuts - widths, cuts + widths - halves, cuts])
        lengths = np.concatenate([widths, widths, halves, halves, halves, halves])
        left, right, *parts = _medians(part, starts, lengths).reshape(6, len(cuts))
        jump, slopes = right - left, parts[0] - parts[1] + parts[2] - parts[3]
        # A trend is no shift: what the slopes on both sides explain is no jump.
        unexplained = np.minimum(np.abs(jump), np.abs(jump - slopes / halves * widths / 2))
        scores = unexplained / (noise * 1.2533 * np.sqrt(2 / widths))
        if scores.max() < SHIFT_SCORE:
            break
        start += int(cuts[scores.argmax()])
    return start


def _medians(x: Floats, starts: Ints, lengths: Ints) -> Floats:
    """Of many pieces of a series at once."""
    places = np.arange(lengths.max())
    pieces = x[np.minimum(starts[:, None] + places, len(x) - 1)]
    ordered = np.sort(np.where(places < lengths[:, None], pieces, np.inf), axis=1)
    rows = np.arange(len(starts))
    middles: Floats = (ordered[rows, (lengths - 1) // 2] + ordered[rows, lengths // 2]) / 2
    return middles


def candidates(y: Floats, shape: Floats, start: int, days: int) -> dict[str, Floats]:
    """Method -> the days to come."""
    n = len(y)
    z = without_weekdays(y, shape)[start:]
    shaped = shape[(n + np.arange(days)) % WEEK]
    made = {"level": np.median(z[-2 * WEEK :]) * shaped}
    low, high = np.quantile(z[-8 * WEEK :], (0.02, 0.98))
    clipped = np.clip(z, low, high)
    for name, pace in (("smoothed", 0.2), ("newest", 0.5)):
        weights = pace * (1 - pace) ** np.arange(len(clipped))[::-1]
        weights[0] += 1 - weights.sum()
        made[name] = float(weights @ clipped) * shaped
    weeks = len(z) // WEEK
    if weeks >= 4:
        medians = np.median(z[-weeks * WEEK :].reshape(weeks, WEEK), axis=1)[-10:]
        ahead = (WEEK - 1) / 2 + np.arange(1, days + 1)
        logs = np.log(np.maximum(medians, _TINY))
        slope = float(np.clip(_slope(logs) / WEEK, -SLOPE_MAX, SLOPE_MAX))
        end = float(np.median(logs - slope * WEEK * (np.arange(len(logs)) - len(logs) + 1)))
        for name, damping in (("trend", 0.995), ("damped", 0.97)):
            steps = np.cumsum(damping ** np.arange(1, days + 1))
            made[name] = np.exp(end + slope * ((WEEK - 1) / 2 + steps)) * shaped
        linear = _slope(medians) / WEEK
        last = float(np.median(medians - linear * WEEK * (np.arange(len(medians)) - len(medians) + 1)))
        made["line"] = np.maximum(last + linear * ahead, 0.0) * shaped
    return made


def _slope(values: Floats) -> float:
    """Theil and Sen's: the median of the slopes of all pairs."""
    i, j = np.triu_indices(len(values), 1)
    return float(np.median((values[j] - values[i]) / (j - i)))


def _log(values: Floats) -> Floats:
    return np.log(np.maximum(values, _TINY))


def _spread(values: Floats) -> float:
    """A standard deviation that outliers do not move."""
    return float(_MAD * np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


class _Trial(NamedTuple):
    """What was known at an earlier day, and what each method forecast then."""

    origin: int
    shape: Floats
    start: int
    made: dict[str, Floats]


def _trials(y: Floats, days: int) -> list[_Trial]:
    """At rolling origins, and at the end of the history last."""
    n, tried_days = len(y), max(days, BACK_TEST_DAYS)
    first, last = 4 * WEEK, n - WEEK
    origins = range(first, last + 1, max(1, (last - first) // ORIGINS))
    trials = []
    for origin in (*origins, n):
        past = y[:origin]
        shape = weekday_shape(past)
        start = last_shift(_log(without_weekdays(past, shape)))
        ahead = days if origin == n else min(tried_days, n - origin)
        trials.append(_Trial(origin, shape, start, candidates(past, shape, start, ahead)))
    return trials


class _Fitted:
    """The methods that were best at rolling origins, as of the last of these trials. No day after it is used."""

    def __init__(self, y: Floats, trials: Sequence[_Trial]) -> None:
        now = trials[-1]
        n = now.origin
        self._y = y[:n]
        since = now.start + 2 * WEEK + 1
        self._past = [one for one in trials[:-1] if since <= one.origin <= n - WEEK]
        scores = {name: self._score(name) for name in now.made if all(name in one.made for one in self._past)}
        ranked = sorted(scores, key=scores.__getitem__)
        self._chosen = ranked[:2] if len(self._past) >= 3 else ["level"]
        self._middle = self._mixed(now.made)
        z = _log(without_weekdays(self._y, now.shape))
        weeks = n // WEEK
        medians = np.median(z[-weeks * WEEK :].reshape(weeks, WEEK), axis=1) if weeks else np.empty(0)
        self._wandering = 0.0
        if weeks >= 8:
            self._wandering = max(0.0, (_spread(medians[3:] - medians[:-3]) ** 2 - _spread(np.diff(medians)) ** 2) / 2)
        self._noise = max(_spread(np.diff(z)) / np.sqrt(2), 0.01)
        newest = np.exp(z[now.start :])
        self._noise_with_spikes = max(self._noise, float(np.std(np.diff(newest)) / np.sqrt(2) / newest.mean()))

    @property
    def method(self) -> str:
        return " and ".join(self._chosen)

    def _came(self, trial: _Trial, days: int) -> Floats:
        """At most so many days after a trial."""
        return self._y[trial.origin : trial.origin + days]

    def _score(self, name: str) -> float:
        errors = []
        for one in self._past:
            came = self._came(one, len(one.made[name]))
            errors.append(np.mean(np.minimum(np.abs(_log(came) - _log(one.made[name][: len(came)])), 1.0)))
        return round(float(np.mean(errors)) if errors else 0.0, _SCORE_DIGITS)  # of equals the first: the calmest

    def _mixed(self, made: dict[str, Floats]) -> Floats:
        mixed: Floats = np.exp(np.mean([_log(made[name]) for name in self._chosen], axis=0))
        return mixed

    def _total_errors(self, days: int) -> Floats:
        """Logarithms of totals over what they were forecast as; of shorter stretches where there are no longer ones."""
        errors = []
        for one in self._past:
            came = self._came(one, min(days, len(one.made["level"])))
            if len(came) >= min(days, WEEK):
                expected = self._mixed(one.made)[: len(came)].sum()
                errors.append(np.log(max(came.sum(), _TINY) / max(expected, _TINY)))
        return np.array(errors)

    def _deviation(self, days: int, errors: Floats) -> float:
        least = self._noise_with_spikes**2 / days + self._noise**2 * 1.57 / (2 * WEEK)
        own = _MAD * float(np.median(np.abs(errors))) if len(errors) >= BIAS_FROM_ORIGINS else 2 * np.sqrt(least)
        seen_days = min(days, max(WEEK, len(self._y) // 2))
        return float(np.sqrt(max(own**2 * days / seen_days, least) + self._wandering * days / 2 / WEEK))

    def total(self, days: int) -> Band:
        errors = self._total_errors(days)
        # Medians of days leave out spikes, which totals have. Half of what was missed: the rest may be chance.
        missed = float(np.median(errors)) / 2 if len(errors) >= BIAS_FROM_ORIGINS else 0.0
        middle = float(self._middle[:days].sum() * np.exp(missed))
        factor = float(np.exp(Z80 * self._deviation(days, errors)))
        return Band(days, middle / factor, middle, middle * factor)

    def path(self) -> Floats:
        ahead = np.arange(1, len(self._middle) + 1)
        errors = []
        for one in self._past:
            mixed = self._mixed(one.made)
            came = self._came(one, len(mixed))
            errors.append(_log(came) - _log(mixed[: len(came)]))
        near = _spread(np.concatenate(errors)) if errors else self._noise * 1.5
        spread = Z80 * np.sqrt(max(near, self._noise) ** 2 + self._wandering * (ahead + WEEK / 2) / WEEK)
        return np.array([self._middle * np.exp(sign * spread) for sign in (-1, 0, 1)])


def _back_test(y: Floats, trials: Sequence[_Trial], days: int) -> BackTest | None:
    """Methods and bands are chosen anew at each origin, of what was known by then."""
    errors, within = [], 0
    judged = [i for i, one in enumerate(trials[:-1]) if len(y) - one.origin >= days]
    for i in judged[:: -(-len(judged) // BACK_TESTS_MAX)] if judged else ():
        origin = trials[i].origin
        came, band = float(y[origin : origin + days].sum()), _Fitted(y, trials[: i + 1]).total(days)
        errors.append(abs(came - band.p50) / max(band.p50, _TINY))
        within += band.p10 - _TINY <= came <= band.p90 + _TINY
    return BackTest(days, len(errors), float(np.median(errors)), int(within)) if errors else None


def _sparse(y: Floats, horizons: Sequence[int]) -> DailyForecast:
    """Days drawn from the newest eight weeks."""
    own, chosen = y[-8 * WEEK :], np.random.default_rng(_SEED)
    totals = []
    for days in horizons:
        drawn = chosen.choice(own, size=(_DRAWS, days)).sum(axis=1)
        # How often something comes is itself known of so many days only.
        wider = 1 + np.sqrt(days / len(own)) / 2
        low, high = np.quantile(drawn, (QUANTILES[0], QUANTILES[-1]))
        mean = float(own.mean() * days)
        totals.append(
            Band(days, max(0.0, float(mean - (mean - low) * wider)), mean, float(mean + (high - mean) * wider))
        )
    path = np.repeat(np.quantile(own, QUANTILES)[:, None], max(horizons), axis=1)
    return DailyForecast("drawn from days", len(y), totals, path, None)
