"""However long the names of pods, models and callers are: the batch is one that the collector takes, and all stay apart."""

import msgspec

from hostile import NAMES
from tokenyield_agent.tokens.event import Caller
from tokenyield_agent.windows.batch import batch_of
from tokenyield_agent.windows.bounds import OTHER_CALLER, Folds, apart_from_others
from tokenyield_agent.windows.open_window import OpenGpu, OpenShare, OpenWindow, add_demand
from tokenyield_agent.workloads.workload_name import WorkloadName
from tokenyield_wire.codec import decode_shipment, encode_shipment
from tokenyield_wire.window import Shipment

NAMESPACE, POD = "n" * 63, "p" * 252
LONG = [f"{NAMESPACE}/{POD}{i}/server" for i in range(3)] + ["m" * 600 + "a", "m" * 600 + "b", "m" * 253]


def test_a_batch_with_names_of_any_length_is_taken_and_keeps_them_apart() -> None:
    keys = [*NAMES, *LONG]
    share_ms = 10
    gpu = OpenGpu(
        state_ms={"active": share_ms * len(keys)},
        shares={key: OpenShare(active_ms=share_ms) for key in keys},
        splits=dict.fromkeys(keys, "even"),
    )
    callers = [msgspec.json.encode(Caller(model=key, labels=(("key", str(i)),))).decode() for i, key in enumerate(keys)]
    window = OpenWindow(
        start_ms=0,
        end_ms=share_ms * len(keys),
        grid_end_ms=share_ms * len(keys),
        gpus={"GPU-0": gpu},
        tokens={key: {"count": {"completion": i + 1}} for i, key in enumerate(keys)},
        demand={gateway: {caller: {"requests": 1} for caller in callers} for gateway in keys[-2:]},
    )
    names = {key: WorkloadName(server=key, place=key, model=key, labels={"pod": key, key: "x" * 600}) for key in keys}
    batch = batch_of(window, names, 1)
    sent = Shipment(schema=1, agent_id="a", epoch="e", cluster="c", node="n", batches=(batch,))
    (taken,) = decode_shipment(encode_shipment(sent)).batches
    assert len({workload.key for workload in taken.workloads}) == len(keys)
    assert len({workload.model for workload in taken.workloads}) == len(keys)
    assert len({(demand.gateway, demand.model) for demand in taken.demand}) == 2 * len(keys)
    assert {share.workload for share in taken.shares} == {workload.key for workload in taken.workloads}
    assert {workload.key for workload in taken.workloads} >= {*NAMES, "m" * 253}, "those that fit stay as they are"


def test_a_team_called_like_what_is_folded_stays_apart_from_it() -> None:
    teams = ["(other)", '"(other)"', '""(other)""', "ads", "(other) team"]
    callers = [apart_from_others(Caller(model="m", labels=(("team", team),))) for team in teams]
    assert len({caller.labels for caller in callers} | {OTHER_CALLER.labels}) == len(teams) + 1
    assert [caller.labels[0][1] for caller in callers[3:]] == teams[3:]
    window, folds = OpenWindow(start_ms=0, end_ms=1, grid_end_ms=1), Folds()
    add_demand(window, "gateway", Caller(model=None, labels=(("team", "(other)"),)), {"requests": 1}, folds)
    assert msgspec.json.encode(OTHER_CALLER).decode() not in window.demand["gateway"]
