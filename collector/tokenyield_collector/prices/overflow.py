"""What GPUs beyond a count cost, where the terms have a rate for them: a pool after the one that has the count.

`overflow_per_gpu_hour` is a short way to write a next pool with the same match, rented on demand. Pure.
"""

from collections.abc import Iterator

from tokenyield_collector.prices.book import ZERO, Owned, Pool, Rented, Terms, term_of

SUFFIX = " (overflow)"


def overflow_pool(pool: Pool) -> Pool | None:
    """The pool of what is beyond the count of `pool`; None where no entry of its terms has a rate for it."""
    if not any(terms.overflow_per_gpu_hour is not None for terms in pool.terms):
        return None
    return Pool(
        name=pool.name + SUFFIX,
        match=pool.match,
        facility=pool.facility,
        kw_per_gpu=pool.kw_per_gpu,
        host_watts_per_gpu=pool.host_watts_per_gpu,
        owner=pool.owner,
        terms=tuple(_entries(pool.terms)),
        overflow_of=pool.name,
    )


def _entries(terms: tuple[Terms, ...]) -> Iterator[Rented]:
    for entry in terms:
        starts, ends = term_of(entry)
        if entry.overflow_per_gpu_hour is None:
            if entry.from_ is None:
                continue
            ends = entry.from_  # from this day on there is no rate: terms that end when they begin
        yield Rented(
            from_=entry.from_,
            currency=entry.currency,
            per_gpu_hour=entry.overflow_per_gpu_hour or ZERO,
            energy_included=isinstance(entry, Rented) and entry.energy_included,
            facility_included=False if isinstance(entry, Owned) else entry.facility_included,
            starts=starts,
            ends=ends,
        )
