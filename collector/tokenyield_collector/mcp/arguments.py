"""What tools are called with: checked by these types, and described to clients by them. Pure.

No description holds a name that a user chose: what a model reads as instructions is ours alone.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ROWS_MAX = 200
TOP = 20
Period = Annotated[
    str,
    Meta(max_length=40, description="A month 2026-10, a day 2026-10-05, or days 2026-10-01..2026-10-07, in UTC."),
]
Column = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
By = Annotated[tuple[Column, ...], Meta(max_length=4, description="Columns that rows are by; those of get_context.")]
Where = Annotated[
    dict[Column, Annotated[str, Meta(max_length=200)]],
    Meta(max_length=8, description="Column -> value: only these lines. Values as list_values gives them."),
]
Top = Annotated[int, Meta(ge=1, le=ROWS_MAX, description="Rows at most; the others are summed up.")]


class Forecast(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    measure: Literal["cost", "tokens", "energy"] = "cost"
    by: By = ()
    where: Where = {}
    top: Top = TOP


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    pass


class ListValues(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    column: Annotated[Column, Meta(description="A column of get_context.")]
    period: Period
    top: Top = ROWS_MAX


class Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    period: Period
    by: By = ()
    where: Where = {}
    measures: Annotated[
        tuple[Column, ...],
        Meta(max_length=12, description="Figures of each row, those of get_context; rows are sorted by the first."),
    ] = ("cost", "tokens", "cost_per_mtok_loaded", "tokens_per_joule_gpu")
    top: Top = TOP


class Explain(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    period: Period
    against: Annotated[Period, Meta(description="The period that it is compared with.")]
    by: By = ()
    where: Where = {}
    top: Top = TOP


class FindIdle(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    period: Period
    by: By = ()
    top: Top = TOP


class Budgets(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    month: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}$", description="2026-10")]


class ShadowUse(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    period: Period
    top: Top = TOP


class YieldFindings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    window_s: Annotated[int, Meta(ge=60, le=7 * 86_400, description="Seconds up to now.")] = 3600


class Reference(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    topic: Literal["buckets", "effects", "units", "limits"]
