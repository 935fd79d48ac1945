"""Imports of spend: rows a second and memory, for each kind of file, and a report over what was imported.

`python bench/spend.py --rows 1000000` makes files of a made-up month under --folder (a file that is there is used again),
imports each by the command line in a process of its own, then reports the month. Prints JSON: rows, processor and wall
seconds, rows by each, peak memory. Bars of issue 25: 100,000 rows a second for CUR in Parquet and FOCUS in CSV, 30,000
for LiteLLM's JSON, 2 s for the report.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODELS = ["anthropic/claude-sonnet-5", "openai/gpt-5.2", "vertex_ai/gemini-3-pro", "anthropic/claude-haiku-5"]
TEAMS, USERS, KEYS = 20, 500, 60


def litellm_rows(rows: int) -> Iterator[dict[str, Any]]:
    """As /spend/logs/v2 has them, without prompts."""
    chosen = random.Random(1)
    for i in range(rows):
        day, team, model = 1 + i * 30 // rows, chosen.randrange(TEAMS), MODELS[chosen.randrange(len(MODELS))]
        prompt, completion = chosen.randrange(100, 20_000), chosen.randrange(1, 2_000)
        yield {
            "request_id": f"chatcmpl-{i}", "call_type": "acompletion", "api_key": f"{team:064x}",
            "spend": round(prompt * 3e-6 + completion * 15e-6, 9), "total_tokens": prompt + completion,
            "prompt_tokens": prompt, "completion_tokens": completion,
            "startTime": f"2026-10-{day:02}T{i % 24:02}:10:00.000Z", "endTime": f"2026-10-{day:02}T{i % 24:02}:10:02.100Z",
            "request_duration_ms": 2100, "model": model, "model_group": "x", "custom_llm_provider": model.split("/")[0],
            "api_base": "https://api.example.com", "user": f"user{chosen.randrange(USERS)}@example.com",
            "metadata": {"user_api_key_alias": f"key-{chosen.randrange(KEYS)}", "project_id": f"p{team}",
                         "additional_usage_values": {"cache_read_input_tokens": prompt // 3}},
            "cache_hit": "False", "request_tags": ["feature:answer"], "team_id": f"team-{team}", "organization_id": None,
            "end_user": "", "messages": {}, "response": {}, "session_id": "", "status": "success", "agent_id": None,
        }  # fmt: skip


def cur_rows(rows: int) -> Iterator[dict[str, Any]]:
    """As CUR 2.0 has them by the hour, with some columns that are not read; every tenth row is of another product. Each
    person is of one team and calls one profile."""
    chosen = random.Random(2)
    for i in range(rows):
        hour, user = i * 720 // rows, chosen.randrange(USERS)
        kind = ("input", "output", "cache-read-input")[i % 3]
        amount = chosen.randrange(1, 10**6) / 1000
        start = f"2026-10-{1 + hour // 24:02}T{hour % 24:02}:00:00Z"
        yield {
            "identity_line_item_id": f"{i:032x}", "bill_billing_period_start_date": "2026-10-01T00:00:00Z",
            "line_item_usage_start_date": start, "line_item_usage_end_date": start,
            "line_item_usage_account_id": f"{123456789000 + user % 3}", "line_item_line_item_type": "Usage",
            "line_item_product_code": "AmazonEC2" if i % 10 == 9 else "AmazonBedrock",
            "line_item_usage_type": f"USE1-Claude{4 + user % 2}.6Sonnet-{kind}-tokens",
            "line_item_operation": "InvokeModelStreamingInference", "line_item_usage_amount": amount,
            "pricing_unit": "1K tokens", "line_item_unblended_cost": round(amount * 0.003, 10),
            "line_item_currency_code": "USD", "line_item_resource_id": f"arn:aws:bedrock:us-east-1:1:profile/p{user % 40}",
            "line_item_iam_principal": f"arn:aws:sts::1:assumed-role/App/user{user}@example.com",
            "tags": json.dumps({"iamPrincipal/team": f"team-{user % TEAMS}", "resourceTags/product": "answers"}),
            "product_region_code": "us-east-1", "line_item_line_item_description": "a text that nobody reads, of some length",
        }  # fmt: skip


def focus_rows(rows: int) -> Iterator[dict[str, Any]]:
    """FOCUS 1.2 of one provider."""
    chosen = random.Random(3)
    for i in range(rows):
        day, team = 1 + i * 30 // rows, chosen.randrange(TEAMS)
        quantity = chosen.randrange(1, 10**7)
        start, end = (
            f"2026-10-{day:02}T00:00:00Z",
            "2026-11-01T00:00:00Z" if day == 30 else f"2026-10-{day + 1:02}T00:00:00Z",
        )
        yield {
            "BillingAccountId": "acme", "BillingCurrency": "USD", "BilledCost": f"{quantity * 3e-6:.9f}",
            "ChargeCategory": "Usage", "ChargePeriodStart": start, "ChargePeriodEnd": end, "ConsumedQuantity": quantity,
            "ConsumedUnit": "Tokens", "EffectiveCost": f"{quantity * 3e-6:.9f}", "ProviderName": "Anthropic",
            "ServiceCategory": "AI and Machine Learning", "ServiceName": "Claude API", "SkuId": MODELS[i % 4],
            "ResourceId": f"workspace-{team}", "SubAccountId": f"team-{team}",
            "Tags": json.dumps({"team": f"team-{team}", "product": "answers"}),
        }  # fmt: skip


def made(folder: Path, kind: str, rows: int) -> Path:
    """The file of a kind, made where it is not there."""
    ending = {"litellm": "jsonl", "aws": "parquet", "focus": "csv"}[kind]
    file = folder / f"{kind}-{rows}.{ending}"
    if file.exists():
        return file
    part = file.with_suffix(".part")
    if kind == "litellm":
        with part.open("w") as out:
            for row in litellm_rows(rows):
                out.write(json.dumps(row) + "\n")
    else:
        source = cur_rows(rows) if kind == "aws" else focus_rows(rows)
        with part.open("w", newline="") as out:
            writer = csv.DictWriter(out, fieldnames=list(next(iter(cur_rows(1) if kind == "aws" else focus_rows(1)))))
            writer.writeheader()
            writer.writerows(source)
    if kind == "aws":
        import duckdb

        table = folder / "cur.part"
        duckdb.execute(f"COPY (SELECT * FROM read_csv('{part}', header=true)) TO '{table}' (FORMAT parquet)")
        part.unlink()
        part = table
    part.rename(file)
    return file


def timed(call: list[str]) -> dict[str, Any]:
    """Run a command of the collector in a process of its own."""
    began_ns = time.perf_counter_ns()
    # A child begins with the memory of its parent: this process has made no file itself.
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenyield_collector.cli", *call], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = (time.perf_counter_ns() - began_ns) / 1e9
    assert process.returncode == 0, said
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mib": round(usage.ru_maxrss / 1024, 1),
        "said": said.splitlines()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kinds", default="litellm,aws,focus")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench-spend"))
    parser.add_argument("--make", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.make:
        print(made(arguments.folder, arguments.make, arguments.rows))
        return
    results: dict[str, Any] = {"rows": arguments.rows, "load_before": os.getloadavg()[0]}
    ledger = arguments.folder / "ledger.duckdb"
    ledger.unlink(missing_ok=True)
    for kind in arguments.kinds.split(","):
        again = [
            sys.executable,
            __file__,
            "--make",
            kind,
            "--rows",
            str(arguments.rows),
            "--folder",
            str(arguments.folder),
        ]
        file = Path(subprocess.run(again, check=True, capture_output=True, text=True).stdout.strip())
        found = timed(["import", kind, str(file), "--ledger", str(ledger)])
        found["rows_per_s"] = round(arguments.rows / found["wall_s"])
        found["rows_per_cpu_s"] = round(arguments.rows / found["cpu_s"])
        results[kind] = found
    results["report"] = timed(
        ["report", "--period", "2026-10", "--by", "vendor,model", "--format", "csv", "--ledger", str(ledger)]
    )
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
