"""Run the demo for a while and draw its table as docs/demo.svg: `python docs/demo_picture.py`."""

import io
from pathlib import Path
from unittest import mock

from rich.console import Console

from tokenyield_collector.demo import run
from tokenyield_collector.demo.live_table import summary_tables

SECONDS = 75.0
OUT = Path(__file__).with_name("demo.svg")


def main() -> None:
    kept: list[dict[str, object]] = []
    notes: list[str] = []
    show = run._show

    def keep(demo: run._Demo, console: Console, duration_s: float) -> None:
        show(demo, console, duration_s)
        notes.extend(demo.notes)
        if demo.latest is not None:
            kept.append(demo.latest)

    with mock.patch.object(run, "_show", keep):
        run.run_demo(duration_s=SECONDS, port=19564, log_file=None)
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    console.print(summary_tables(kept[-1], notes))
    OUT.write_text(console.export_svg(title="tokenyield-collector demo"))


if __name__ == "__main__":
    main()
