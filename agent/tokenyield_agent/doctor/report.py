"""The doctor's report: values only."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One line of the doctor's report. `about` is the part of the host: gpu, binding, server, log, ..."""

    level: Literal["ok", "note", "fault"]
    about: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One holder of one GPU. `tokens` is where its tokens come from, `quality` how exact that is."""

    gpu: str
    model: str
    held_by: str
    known_by: str
    tokens: str
    quality: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """Who holds each GPU, and the findings in the order in which data flows."""

    rows: list[GpuRow] = field(default_factory=list)
    findings: list[DoctorFinding] = field(default_factory=list)
