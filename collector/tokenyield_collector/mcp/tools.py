"""The tools: name, what a model reads of each, arguments, and the function that answers. All of them only read. Pure.

Answers are cleaned here: no control character of a name that somebody chose gets to a model or its terminal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tokenyield_collector.errors import ParameterError
from tokenyield_collector.mcp import answers
from tokenyield_collector.mcp.answers import Asked
from tokenyield_collector.mcp.arguments import (
    Budgets,
    Explain,
    FindIdle,
    Forecast,
    ListValues,
    NoArguments,
    Query,
    Reference,
    ShadowUse,
    YieldFindings,
)
from tokenyield_settings.visible import visible
from tokenyield_wire.bounded import bounded

TEXT_CHARS_MAX = 1000
"""Of one text in an answer: a name, a note, a sentence."""
TOOLS_MAX = 10


class McpTool(NamedTuple):
    """`answer` takes what may be read and the decoded arguments."""

    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    answer: Callable[[Asked, Any], dict[str, Any]]

    def listed(self) -> dict[str, Any]:
        """For tools/list."""
        (schema,), components = msgspec.json.schema_components((self.arguments,), ref_template="{name}")
        schema = {name: value for name, value in components[schema["$ref"]].items() if name != "title"}
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": schema,
            "annotations": {
                "title": self.title,
                "readOnlyHint": True,
                "destructiveHint": False,
                "idempotentHint": True,
                "openWorldHint": False,
            },
        }

    def call(self, asked: Asked, arguments: Any) -> dict[str, Any]:
        """Raises `ParameterError`, whose text says the right form, `LedgerError`."""
        try:
            decoded = msgspec.convert(arguments, self.arguments)
        except msgspec.ValidationError as error:
            known = ", ".join(self.listed()["inputSchema"].get("properties", {})) or "none"
            raise ParameterError(
                "arguments", expected=f"those of {self.name} ({known})", found=visible(bounded(str(error), 200))
            ) from None
        cleaned: dict[str, Any] = _cleaned(self.answer(asked, decoded))
        return cleaned


TOOLS = (
    McpTool("get_context", "What can be asked",
            "Call this first. Currency, dimensions and columns to group and filter by, measures, units, up to when "
            "figures are complete (as_of), and which teams the caller may read.",
            NoArguments, answers.get_context),
    McpTool("list_values", "Values of a column",
            "The values of one column in a period (teams, models, workloads, vendors, pools, nodes), those that cost "
            "most first, with cost and tokens.",
            ListValues, answers.list_values),
    McpTool("query", "Cost, tokens, energy by column",
            "Figures of a period by up to four columns: cost, tokens, cost per million tokens, tokens per joule, "
            "GPU-hours, energy, requests, revenue, margin. Rows with most of the first measure, the rest summed "
            "up, and the total.",
            Query, answers.query),
    McpTool("explain_change", "Why cost changed",
            "Why one period cost more or less than another: volume, model mix, cache hits, pace, idle, energy, price, "
            "new and gone, in money. Effects and rows sum exactly to the difference; `text` says it in a sentence.",
            Explain, answers.explain_change),
    McpTool("forecast", "What the month will come to",
            "Cost, tokens or energy by the end of the month and over the time after it: p10, p50, p90 of totals, with "
            "the method and how far off it was before (back_test). `why` says where history is too short.",
            Forecast, answers.forecast),
    McpTool("find_idle", "Who idles, and what it costs",
            "What was paid for GPUs on which nothing ran, by column: held and idle (parked: with the model loaded and "
            "no use), unallocated, dark (not reporting). Most expensive first.",
            FindIdle, answers.find_idle),
    McpTool("list_yield_findings", "Why workloads yield little",
            "For each workload of the newest hours: why it makes fewer tokens than it could (over-provisioned, slow, "
            "power-capped), with evidence and the money at stake an hour.",
            YieldFindings, answers.list_yield_findings),
    McpTool("list_shadow_use", "Use that nothing explains",
            "Vendors and own GPUs that are used or paid for and that no gateway, server or bill explains. Levels are "
            "other evidence, perhaps of the same use: never add them up.",
            ShadowUse, answers.list_shadow_use),
    McpTool("list_budgets", "Budgets of a month",
            "Each budget of a month: spent, remaining, step reached, what the month will come to.",
            Budgets, answers.list_budgets),
    McpTool("get_reference", "What terms mean",
            "Meanings of the buckets of the waterfall, the effects of a difference, units, and limits of the figures.",
            Reference, answers.get_reference),
)  # fmt: skip
BY_NAME = {tool.name: tool for tool in TOOLS}
LISTED = [tool.listed() for tool in TOOLS]
assert len(TOOLS) <= TOOLS_MAX


def _cleaned(value: Any) -> Any:
    """Texts without control characters, none of them long; names of columns are texts too."""
    if isinstance(value, str):
        return bounded(visible(value), TEXT_CHARS_MAX)
    if isinstance(value, dict):
        return {bounded(visible(str(name)), TEXT_CHARS_MAX): _cleaned(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(one) for one in value]
    return value
