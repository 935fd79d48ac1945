"""What is at stake in all is the sum of the list below it, exactly and as it is shown."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tokenyield_collector.diagnosis.findings import Diagnosis, WorkloadFinding
from tokenyield_collector.diagnosis.stakes import Stakes

amounts = st.one_of(st.none(), st.decimals("0", "100", places=9), st.decimals("0", "0.02", places=9))


def diagnosis(stakes: list[Decimal | None]) -> Diagnosis:
    findings = [WorkloadFinding(kind="starved", text="", at_stake=stake) for stake in stakes]
    return Diagnosis(
        cluster="c", workload="w", server="", model="", gpu_model="", gpus=1, cost_per_hour=None, findings=findings
    )


@given(st.lists(st.lists(amounts, max_size=2), max_size=12))
def test_the_list_sums_to_what_is_at_stake_in_all(listed: list[list[Decimal | None]]) -> None:
    stakes = Stakes([diagnosis(one) for one in listed])
    firsts = [one[0] for one in listed if one and one[0] is not None]
    assert stakes.total == (sum(firsts) if firsts else None)
    shown = [stakes.of(at) for at in range(len(listed))]
    assert [[one is None for one in row] for row in shown] == [[one is None for one in row] for row in listed]
    assert sum(row[0] for row in shown if row and row[0] is not None) == (stakes.shown_total or 0)
    smallest = Decimal(1).scaleb(-stakes.decimals)
    for row, exact in zip(shown, listed, strict=True):
        assert all(abs(a - b) <= smallest for a, b in zip(row, exact, strict=True) if a is not None and b is not None)


def test_thirds_of_a_cent() -> None:
    stakes = Stakes([diagnosis([Decimal("0.333333333")])] * 10)
    assert (stakes.total, stakes.shown_total, stakes.decimals) == (Decimal("3.33333333"), Decimal("3.33"), 2)
    assert [stakes.of(at)[0] for at in range(10)] == [Decimal("0.34")] * 3 + [Decimal("0.33")] * 7
