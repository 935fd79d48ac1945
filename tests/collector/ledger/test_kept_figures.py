"""Every engine keeps figures by name, and knows of each hour whether its facts are those that were read."""

from collector.ledger.engines import Open
from collector.samples import HOUR_MS, NOON_MS, batch, shipment
from tokenyield_collector.ledger.kept import KeptFigure, packed, unpacked


def test_figures_are_replaced_forgotten_and_there_after_a_restart(open_ledger: Open) -> None:
    ledger, name = open_ledger(), "a/it's {one} %d"
    ledger.figures.keep(
        [KeptFigure(name, "of then", packed([1])), KeptFigure("a/two", "i", "x"), KeptFigure("b", "", "y")]
    )
    ledger.figures.keep([KeptFigure(name, "of now", packed({"sum": 10**30}))], ["a/two", "never there"])
    ledger.close()
    again = open_ledger()
    assert again.figures.inputs("a/") == {name: "of now"}
    contents = again.figures.contents([name, "a/two", "b", "never there"])
    assert contents.keys() == {name, "b"}
    assert unpacked(contents[name]) == {"sum": 10**30}
    assert again.figures.contents([]) == {}
    again.figures.keep([])
    again.close()


def test_a_damaged_figure_is_none() -> None:
    assert unpacked("") is None
    assert unpacked("not base64") is None
    assert unpacked(packed([1])[:-6]) is None


def test_an_hour_has_another_revision_when_its_facts_are_others(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.append([shipment(batch(1, NOON_MS), batch(2, NOON_MS + HOUR_MS))], NOON_MS)
    ledger.fold()
    ledger.roll()
    before = ledger.hour_revisions()
    assert set(before) == {NOON_MS, NOON_MS + HOUR_MS}
    assert None not in before.values()
    ledger.append([shipment(batch(1, NOON_MS))], NOON_MS)  # known
    ledger.append([shipment(batch(3, NOON_MS + 15_000))], NOON_MS)
    ledger.fold()
    if not ledger.is_shared:
        assert ledger.hour_revisions()[NOON_MS] is None, "it grows in memory"
    ledger.roll()
    ledger.close()
    again = open_ledger()
    after = again.hour_revisions()
    again.close()
    assert after[NOON_MS] != before[NOON_MS]
    assert after[NOON_MS + HOUR_MS] == before[NOON_MS + HOUR_MS]
