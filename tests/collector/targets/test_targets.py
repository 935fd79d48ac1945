"""One way to each target: rich has one console and one cell, CSV one line; no other code makes any."""

import ast
import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

import tokenyield_collector
from hostile import NAMES, acting, as_written, is_formula
from tokenyield_collector.targets.html import html_text
from tokenyield_collector.targets.spreadsheet import csv_line
from tokenyield_collector.targets.terminal import cell, terminal
from tokenyield_collector.targets.terminal_json import printable_json
from tokenyield_settings.visible import visible

SOURCES = [path for path in Path(tokenyield_collector.__file__).parent.rglob("*.py") if path.parent.name != "targets"]


@given(st.lists(st.one_of(st.text(min_size=1), st.text("=+-@' \\n\t\n\"x", min_size=1)), min_size=1))
def test_a_line_of_csv_is_one_line_that_is_read_back(names: list[str]) -> None:
    line = csv_line([*names, 1, -2.5, None])
    assert line.count("\n") == 1
    (read,) = csv.reader(io.StringIO(line, newline=""))
    assert read[-3:] == ["1", "-2.5", ""]
    assert not any(is_formula(text) for text in read[:-3])
    assert [as_written(text.removeprefix("'")) for text in read[:-3]] == names, "injective"


def test_plain_names_and_numbers_are_written_as_before() -> None:
    values = ["search", "ns/pod", 'say "x"', "a,b", "O'Brien", 0.1, -3, None, ""]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    assert csv_line(values) == out.getvalue()


def test_a_cell_of_a_table_is_the_text_of_the_name() -> None:
    for name in NAMES:
        out = io.StringIO()
        table = Table()
        table.add_column(cell(name))
        table.add_row(cell(name, "bold"))
        terminal(file=out, width=400).print(table)
        assert out.getvalue().count(visible(name)) >= 2, name
        assert not acting(out.getvalue()), name


def test_markup_is_not_read_even_where_a_cell_was_forgotten() -> None:
    out = io.StringIO()
    table = Table("[red]head[/red]", "two")
    table.add_row("[/]", ":warning: [link=http://x]y[/link]")
    terminal(file=out, width=200).print(table)
    for text in ("[red]head[/red]", "[/]", ":warning: [link=http://x]y[/link]"):
        assert text in out.getvalue()


def test_html_escapes_what_nobody_sees_and_leaves_numbers() -> None:
    assert [html_text(value) for value in ("a\u202eb", 5, None)] == ["a\\u202eb", 5, None]


def test_json_for_a_terminal_is_the_same_document() -> None:
    import json

    document = {name: [name] for name in NAMES}
    plain = json.dumps(document, ensure_ascii=False, indent=1).encode()
    assert json.loads(printable_json(plain)) == document
    assert not acting(printable_json(plain).decode())


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_other_code_has_a_console_a_csv_writer_or_markup(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    assert not re.search(r"\bConsole\(|csv\.(writer|DictWriter)|\[/?bold\]|\[/\]|from_markup", text)
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Text":
            assert isinstance(call.args[0], ast.BinOp), "text of others is a cell; only bars are drawn"
