"""docs/dialects.md: its tables from the agent's registry of servers and gateways, between prose that explains them."""

from pathlib import Path

import truth_table

from tokenyield_agent.tokens.dialects.base import PathReport, Server
from tokenyield_agent.tokens.dialects.registry import GATEWAYS, SERVERS
from tokenyield_wire.latency import LATENCY_EDGES_MS, LATENCY_KINDS

PAGE = Path(__file__).parent / "dialects.md"
KIND_WORDS = {
    "prompt_computed": "computed prompt",
    "prompt_cached": "cached prompt",
    "prompt_unsplit": "unsplit prompt",
    "completion": "completion",
    "requests": "requests",
    "requests_aborted": "aborted requests",
    "requests_failed": "failed requests",
}
LATENCY_WORDS = {
    "first_token": "to the first token",
    "inter_token": "from one token to the next",
    "end_to_end": "to the end of the answer",
}

HEAD = """# What is counted of which server

Made by `make docs` from `agent/tokenyield_agent/tokens/dialects/`; do not edit.

The agent takes a server's own counters (its Prometheus endpoint) where it answers, and its log while it does not: never both
for the same tokens ([decision 0004](decisions/0004-counters-first-the-log-takes-over.md)). `dialect: auto` recognizes a log's
server by its lines. `tokenyield-agent tokens FILE` shows what would be counted in any log, and of any saved page:

```sh
curl -s http://127.0.0.1:8000/metrics > before.prom    # and again later
tokenyield-agent tokens now.prom                       # since the server's start
tokenyield-agent tokens --since before.prom now.prom   # in between; more pages are taken in their order
```
"""

FOOT = """
How gateways are set up: [gateways.md](gateways.md). A server of your own: `dialects` in [agent.yaml](../agent/agent.yaml), a
regular expression with named groups, checked at start by `tokenyield-agent check`.

## Words
- `prompt_computed` and `prompt_cached`: a prompt's tokens that were computed, and that the prefix cache served. A source that
  does not distinguish them gives `prompt_unsplit`. A source that reports only what was computed leaves `prompt_cached` unknown.
- `method`: `counter` (the server's counters, exact), `count` (added up per request), `rate` (a rate times its interval).
- A count is `exact`, or a `lower bound` where the log shows nothing of some requests, as of those that their clients gave
  up: what is counted was made, and some of what was made may be missing. `tokens FILE` shows which it is, kind by kind.
- `requests`: what clients sent to an endpoint that makes tokens and was answered, one for each call
  ([decision 0009](decisions/0009-a-request-is-what-a-client-sent.md)); `requests_aborted`: what the server saw its client give
  up; `requests_failed`: answered with another 4xx or 5xx. What a path cannot know is null.

## What a page of counters must show
Each series is compared with itself. One that is new counts from 0, one that is missing goes on from its last value when it is
back, also after a restart of the agent, and one that is lower was restarted, alone. A lower value that neither another start
time nor a refused connection explains waits for the next page: an old page, or another process behind the same port, is no
restart. A page without the counters that were there before (half-served, cut, of an exporter that warms up) is no answer; after
three of them the log takes over. Processes that answer by turns behind one address each go on, where they show
`process_start_time_seconds`; where they do not, name an address for each. More than 4,096 series of one page are not read, and 1,024 missing ones remembered.

A known server without counters before its first request (Dynamo's frontend, SGLang, TGI, TensorRT-LLM) is asked at the normal
pace and counts from 0. A configured address is asked again whatever answers there; a discovered one where another program
answers is left alone for an hour.

| endpoint | settings of its workload |
|---|---|
| with a bearer token | `metrics_token_file`, read again for every request |
| https with a private CA | `metrics_ca_file`, read again when it changes |
| llama-server's router, which answers 400 | `metrics: http://host:port/metrics?model=NAME`, one workload a model; older routers load the model to answer |
| llama-server `--sleep-idle-seconds` before b10519, which a scrape wakes or keeps awake | `metrics_when_idle: rarely` (every 10 minutes after one of silence) or `never` (not before its log shows a request); `scrape_when_idle` for all |

What is wrong with an endpoint, and what to change, is said by `doctor` and in the log; its reason in one word is in
`tokenyield_agent_endpoint_problem`.

## Where counters and a log meet
Where the counters answer until the server is idle, the sum is theirs exactly, whatever its log says. Where an endpoint goes away
while requests are in progress, the log counts from its last answer on: what is counted then is as exact as that log. A log that
shows more than the counters (llama.cpp repeats a prompt for each of `n` choices) is over by what it showed too much since that
answer, and in its first minutes by at most twice what it showed lately; that is subtracted when the endpoint is back, and stays
where it is not. Seen with the llama-server of llama-cpp-python 0.3.36 and clients that ask for one or three choices: idle when it was killed, exact;
busy, 1.2 % of its prompts over.

## How far off a log is
Whole runs of real servers (tiny random models on CPU, November 2026) against the server's own counters at the same time, or,
where it has none, against the `usage` of all answers. They are tests (`tests/agent/tokens/test_recorded_runs.py`).

| server, load | computed prompt | cached prompt | completion | requests |
|---|---|---|---|---|
| llama-server b11434, completions with `n=3` | 22,286, exact | 68,427, exact | 13,842, exact | 145, exact |
| llama-server of llama.cpp vendored in llama-cpp-python 0.3.36, streams | 13,935, exact | 54,007, exact | 20,941, exact | 203, exact |
| llama-server b11434, 81 of 84 clients gave up | 451 of 13,118 | 782 of 43,379 | 1,200 of 5,577 | 3 and 81 aborted, exact |
| llama-server b11434, router with two models | no counters | no counters | no counters | 276 of 277 passed on |
| vLLM 0.32.0, two bursts | 39,915 of 40,422 (-1.3 %) | unknown | 74,140 of 75,032 (-1.2 %) | 726, exact |
| vLLM 0.32.0, a pod's log, rotated twice | 39,325 of 39,541 (-0.5 %) | unknown | 9,749 of 9,788 (-0.4 %) | 330, exact |
| vLLM 0.32.0, chat, `n=3`, messages, responses, refused and given up | 8,577 of 8,732 (-1.8 %) | unknown | 1,250 of 1,270 (-1.6 %) | 49 of 52, 339 failed, exact |
| vLLM 0.32.0, two API servers | prints none of 13,182 | unknown | prints none of 2,539 | not read of 98 |
| Ollama 0.17.4, its own engine | unknown | unknown | unknown | 245 of 244 |
| transformers serve 5.19 | unknown | unknown | unknown | 310, exact |

A rate's first interval begins when the server starts, which is not in its log: that is what vLLM's log lacks. Ollama's log shows
one call more than its client recorded.

## Where logs are
A path or pattern (`log`), a systemd unit (`journal`, through `journalctl`), and what containers write: CRI files under
`/var/log/pods`, with parts of long lines joined, and Docker's json-file. What a server logged as it started, with its model, is
read of a file's beginning and of a unit's running invocation. Anything but quotation marks may stand before a line (docker
compose, `docker logs -t`, syslog, `kubectl logs --prefix`, a formatter of your own); what of it names a sender keeps the servers
of one log apart. Rotation by rename, copytruncate and the kubelet is followed; compressed files are not read again.

## Which workload holds which GPU
NVML lists the processes on each GPU. A process belongs to the highest of its ancestors, in the same container, unit or job, that
*executes* a known server: by its program (also as the kernel resolved it), its Python module or the title that it gave itself, see
the table below. What a shell with `-c`, tmux, screen, a supervisor, `sudo` or `uv run` has in its arguments makes no server of
it: two servers under one tmux or one `bash -c "A & B"` are two workloads, and what runs inside a server (engine cores, runners,
a router's children) belongs to it. Ranks of one program under `mpirun`, `srun`, `torchrun` or Ray's node manager are one.

The cgroup (v1, hybrid or v2) names the container, pod, systemd unit or Slurm job; a unit is what systemd's own hierarchy shows,
whatever path another controller has. A pod's name and namespace come from the kubelet's folders; its labels from the API server,
if `pod_labels` names any. Ports below 32768 on which such a server listens are asked once for `/metrics`
(`discover_endpoints: false` turns that off). GPUs that the kubelet gave to a pod that runs nothing there are `idle`, not
`unallocated`. A GPU of several workloads is divided by MIG slices, SM time, memory, or evenly, and the method is kept.

A server's log is the file to which its standard output goes (in a container also inside it; through a pipe too, as in
`vllm serve | tee vllm.log`), what its container wrote, or its unit's journal. Where two servers write to one of these, its lines cannot be assigned: it
is followed for neither, and only their endpoints are read. A process that belongs to no known workload is named by its command.
A workload of the settings that is found by `process` or by its log is likewise the process that executes the server, not the
shell that started it.
`tokenyield-agent doctor` shows all of it as a table, and what to change.

| server | program or script | Python module, with `-m` or as a file | title of the process | all of the folder |
|---|---|---|---|---|
"""


def page() -> str:
    servers = sorted(SERVERS.values(), key=lambda server: server.title.lower())
    rows = [
        f"| {server.title} | `{server.name}` | {_or_dash(server.port)} | {_log(server)} | {_counters(server)} |\n"
        for server in servers
    ]
    gateways = [f"| {one.title} | `{one.name}` | {one.reports} |\n" for one in GATEWAYS.values()]
    return "".join(
        [
            HEAD,
            f"\n{_load(servers)}\n",
            f"\n{_latency(servers)}\n",
            "\n| server | name | default port | its log reports | its counters report |\n|---|---|---|---|---|\n",
            *rows,
            "\n| gateway | dialect | its log reports, per request |\n|---|---|---|\n",
            *gateways,
            truth_table.section(),
            FOOT,
            *(_process(server) for server in servers if server.process is not None),
        ]
    )


def pages() -> dict[Path, str]:
    return {PAGE: page()}


def _log(server: Server) -> str:
    report = server.log_report or PathReport()
    parts = [
        _engines(server),
        _kinds("exact", report.exact, report),
        _kinds("lower bound", report.lower_bound, report),
        _kinds("rates", report.rates, report),
    ]
    if server.log is not None and not server.reports_tokens:
        parts.append("**no tokens**")
    return _cell(report, parts)


def _counters(server: Server) -> str:
    report = server.counters_report
    if report is None:
        return "none" if server.reports_tokens else "none: **no tokens**"
    kinds = server.counters.kinds if server.counters is not None else ()
    by_default = "on by default" if server.counters is not None and not report.turned_on_by else ""
    return _cell(report, [_kinds("exact", kinds, report) or _engines(server), by_default])


def _kinds(word: str, kinds: tuple[str, ...], report: PathReport) -> str:
    names = [
        KIND_WORDS[kind] + (f" (since {report.since[kind]})" if kind in report.since else "")
        for kind in KIND_WORDS
        if kind in kinds
    ]
    return f"{word}: {', '.join(names)}" if names else ""


def _engines(server: Server) -> str:
    return f"what {' or '.join(f'`{name}`' for name in server.engines)} inside it reports" if server.engines else ""


def _cell(report: PathReport, parts: list[str]) -> str:
    turned_on = f"turned on by `{report.turned_on_by}`" if report.turned_on_by else ""
    return "; ".join(part for part in (*parts, report.caveat, turned_on) if part)


def _load(servers: list[Server]) -> str:
    counters = [f"`{one.name}`" for one in servers if one.counters is not None and one.counters.running]
    logs = [f"`{one.name}`" for one in servers if one.log_report is not None and one.log_report.has_load]
    return (
        "How a server is loaded (requests running and waiting, part of its KV cache in use), which [diagnoses](diagnosis.md) need,\n"
        f"is reported by the counters of {_listed(counters)}, and by the logs of {_listed(logs)}."
    )


def _latency(servers: list[Server]) -> str:
    by_kind = {
        words: [f"`{one.name}`" for one in servers if one.counters is not None and kind in one.counters.latency.kinds]
        for kind, words in LATENCY_WORDS.items()
    }
    return (
        "How long callers waited, in the buckets of `agent/tokenyield_wire/latency.py`, is reported by the endpoints of these\n"
        "servers, each by its own definition and without a setting of its own:\n"
        + "".join(f"\n- {words}: {_listed(names)}" for words, names in by_kind.items())
        + "\n\n`tgi` and `trtllm` count one mean a request between tokens, the others each token or step; vLLM counts waits of aborted\n"
        "requests for their first token too. `llamacpp` and `triton` report none. Upper edges of the buckets, in ms:\n"
        + "".join(
            f"\n- `{kind}`: {', '.join(f'{edge:,}' for edge in LATENCY_EDGES_MS[kind])}" for kind in LATENCY_KINDS
        )
    )


def _process(server: Server) -> str:
    assert server.process is not None
    names = server.process
    cells = (names.programs, names.modules, tuple(f"{title}..." for title in names.titles), names.folders)
    return f"| `{server.name}` | {' | '.join(', '.join(f'`{name}`' for name in cell) or '-' for cell in cells)} |\n"


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
