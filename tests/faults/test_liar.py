"""A node that lies, and tenants who play with their logs, in the world that goes wrong: nobody else's books change.

TOKENYIELD_FAULT_SCHEDULES plays more; `make faults-liar` plays five thousand.
"""

import os
from collections import Counter

import pytest

from faults.tenant_log import TRICKS
from faults.world import play

SCHEDULES = int(os.environ.get("TOKENYIELD_FAULT_SCHEDULES", "2"))


@pytest.mark.timeout(600 + 60 * SCHEDULES)
def test_books_of_others_are_exact_beside_a_node_that_lies() -> None:
    happened = sum((play(seed, has_liar=True) for seed in range(SCHEDULES)), start=Counter[str]())
    assert {"liar: taken", "liar: refused", "liar: not its node", "liar: too early"} <= happened.keys()
    tricks = {f"tenant's log: {trick.__name__.replace('_', ' ')}" for trick in TRICKS}
    assert len(tricks & happened.keys()) > len(tricks) / 2, "else they try nothing"
