"""What an agent remembers over its end."""

import msgspec

from tokenyield_agent.shipping.resume import ResumeState
from tokenyield_agent.windows.builder import WindowBuilder
from tokenyield_wire.window import faults_of_batch

OF_AN_OLDER_AGENT = (
    b'{"boot_id":"b","book":{"end_ms":1795435325000,"windows":[{"start_ms":1795435320000,"end_ms":17954353'
    b'25000,"grid_end_ms":1795435335000,"jumped":false,"gpus":{"G":{"model":"H100","index":0,"state_ms":{"'
    b'active":5000},"unknown_reason_ms":{},"state_mj":{"active":5000},"method_mj":{"power":5000},"error_mj'
    b'":7,"energy_missing_ms":0,"parked_ms":0,"parked_mj":0,"activity_known_ms":0,"activity":{},"utilizati'
    b'on_pct_ms":250000,"memory_mib_ms":null,"throttled_ms":{"sw_power_cap":5000},"throttled_lost_us":{},"'
    b'events":{},"power_mw_max":300000,"temperature_c_max":60,"memory_total_mib":null,"shares":{"chat":{"a'
    b'ctive_ms":3750,"active_mj":3750}},"splits":{"chat":"memory"}}},"tokens":{"chat":{"rate":{"completion'
    b'":17}}},"demand":{"gw":{"{\\"model\\":\\"m\\",\\"labels\\":[[\\"team\\",\\"a\\"]]}":{"completion":5}}},"host_m'
    b'j":{}}]},"models":{"G":"H100"},"counters_mj":{"G":9},"tokens":{},"journal_cursor":null}'
)


def test_the_state_of_an_older_agent_goes_on() -> None:
    resume = msgspec.json.decode(OF_AN_OLDER_AGENT, type=ResumeState)
    builder = WindowBuilder(length_ms=15_000, settle_ms=12_000, state=resume.builder)
    builder.extend((builder.end_ms or 0) + 10_000, [])
    (batch,) = builder.batches(builder.ready(flush=True), {}, 1)
    assert not list(faults_of_batch(batch, ""))
    ((gpu,), (share,), (workload,), (demand,)) = (batch.gpus, batch.shares, batch.workloads, batch.demand)
    assert (gpu.active_ms, gpu.unknown_ms, gpu.energy_mj.active, gpu.energy_error_mj) == (5_000, 10_000, 5_000, 7)
    assert (share.workload, share.split, share.active_ms, share.active_mj) == ("chat", "memory", 3_750, 3_750)
    assert (workload.tokens[0].method, workload.tokens[0].completion) == ("rate", 17)
    assert (demand.gateway, demand.model, demand.completion) == ("gw", "m", 5)
    assert msgspec.json.decode(msgspec.json.encode(resume))["book"], "the name in the spool stays"
