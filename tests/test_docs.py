"""The docs are true: generated pages match the code; tests, files, headings and metrics that a page names exist."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import generate
import pytest

import chart

ROOT = Path(__file__).parents[1]
NOT_OURS = {".git", ".venv", ".cache", "build", "dist", "node_modules", "vendor", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
            ".import_linter_cache", "__pycache__"}  # fmt: skip


def _files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        if path.is_file() and not NOT_OURS & set(path.relative_to(ROOT).parts):
            yield path


FILES = list(_files())
PAGES = [path for path in FILES if path.suffix == ".md"]
DECISIONS = sorted((ROOT / "docs" / "decisions").iterdir())


TESTS = {
    node.name
    for file in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.FunctionDef)
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", generate.pages(), ids=_name)
def test_what_is_made_from_the_code_is_as_the_code_makes_it(path: Path) -> None:
    assert path.read_text() == generate.pages()[path], "run `make docs`"


def test_the_chart_has_no_other_dashboards_and_rules() -> None:
    assert set((chart.CHART / "monitoring").iterdir()) == set(chart.pages()) - {chart.CHART / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named <= TESTS
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert not [link for link in links if link and not (page.parent / link).exists()]
    files = set(re.findall(r"(?<![\w/])((?:[a-z_]+/)*)(test_\w+\.py)\b", text))
    assert not [
        name
        for folder, name in files
        if not list((ROOT / "tests").glob(f"{folder.removeprefix('tests/') or '**/'}{name}"))
    ]


# --- links to headings ---------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_link_to_a_heading_finds_it(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", page.read_text())
    targets = [((page.parent / path) if path else page, anchor) for path, anchor in links if "://" not in path]
    assert not [
        f"{target}#{anchor}" for target, anchor in targets if target.suffix == ".md" and anchor not in _anchors(target)
    ]


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ("CHANGELOG.md", "metrics.md")], ids=_name)
def test_a_metric_that_a_page_names_exists(page: Path) -> None:
    """A name that ends in `_…` stands for all that begin so."""
    metrics = set(re.findall(r"`(tokenyield_\w+)`", generate.metrics_page()))
    packages = {path.parent.name for path in FILES if path.name == "__init__.py"}
    named = set(re.findall(r"(?<![\w/:.])(tokenyield_\w+)(?![\w/-])", page.read_text())) - packages
    assert not [
        name
        for name in named
        if name not in metrics and not (name.endswith("_") and any(m.startswith(name) for m in metrics))
    ]


_OF_OTHERS = {"fsync_after_insert", "insert_quorum", "rule_files", "tmp_path", "wait_until"}
"""Settings of ClickHouse and Prometheus; words of our tests."""


def test_a_setting_or_field_that_a_page_names_exists() -> None:
    """Names of several words joined by `_`, as settings, fields and states have them; tests and metrics are looked at above."""
    sources = (
        path
        for path in FILES
        if path.suffix in {".py", ".yaml", ".c"} and path.relative_to(ROOT).parts[0] in {"agent", "collector", "helm"}
    )
    known = set(re.findall(r"\w+", "\n".join(path.read_text() for path in sources)))
    named = {
        (name, page.name)
        for page in PAGES
        if page.name not in ("CHANGELOG.md", "metrics.md")
        for name in re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)(?:`|: )", page.read_text())
    }
    assert not [
        f"{page}: {name}"
        for name, page in named
        if not name.startswith(("test_", "tokenyield_")) and name not in known | _OF_OTHERS
    ]


# --- docs/architecture.md ------------------------------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
AGENT, COLLECTOR = ROOT / "agent" / "tokenyield_agent", ROOT / "collector" / "tokenyield_collector"
_PATH = re.compile(r"`((?:\.?[\w-]+/)+(?:[\w.-]+\.\w+)?|(?:[\w-]+/)*[\w-]+\.(?:py|md|json|yaml|toml))`")
_EXAMPLES = {"prices.yaml", "prices-tiers.yaml", "tiers.yaml", "attribution.yaml", "NNNN-title.md"}
"""Files of an operator, and a pattern."""


def _missing(text: str) -> list[str]:
    """The folders (with a slash at their end) and files that the text names and that do not exist."""
    named = set(_PATH.findall(text)) - _EXAMPLES
    return sorted(
        path
        for path in named
        if not any(
            (root / path).is_dir() if path.endswith("/") else (root / path).is_file()
            for root in (ROOT, AGENT, COLLECTOR)
        )
    )


def test_a_missing_path_is_recognized() -> None:
    text = "`tokens/tail.py`, `tokens/nothing.py`, `gpu/nvidia/`, `gpu/nothing/`, `daemon.py`, `nothing.py`, `ledger.duckdb`, `/v1/summary`"
    assert _missing(text) == ["gpu/nothing/", "nothing.py", "tokens/nothing.py"]


@pytest.mark.parametrize(("page", "least"), [("docs/architecture.md", 100), ("CONTRIBUTING.md", 10)])
def test_every_path_on_a_page_about_the_code_exists(page: str, least: int) -> None:
    text = (ROOT / page).read_text()
    assert len(_PATH.findall(text)) >= least
    assert not _missing(text)


@pytest.mark.parametrize("program", [AGENT, COLLECTOR], ids=_name)
def test_every_folder_is_in_the_architecture(program: Path) -> None:
    """In the table of folders, and those that are not within another in the table of layers."""
    folders = [path.parent.relative_to(program) for path in program.rglob("__init__.py") if path.parent != program]
    of_folders, of_layers = ARCHITECTURE.split("\n## Folders\n")[1].split("\n## Layers\n")
    of_layers = of_layers.split("\n## ")[0]
    assert not [folder for folder in folders if f"`{folder}/`" not in of_folders]
    assert not [folder for folder in folders if len(folder.parts) == 1 and f"`{folder}/" not in of_layers]


def _imported(file: Path, program: Path) -> Iterator[tuple[str, str]]:
    """(top folder or file of the program, the module) of all that the file imports from its own program."""
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            package, _, name = module.partition(".")
            if package == program.name and name:
                top = name.split(".")[0]
                yield (f"{top}/" if (program / top).is_dir() else f"{top}.py"), module


@pytest.mark.parametrize(("program", "column"), [(AGENT, 2), (COLLECTOR, 3)], ids=["agent", "collector"])
def test_no_import_runs_upwards(program: Path, column: int) -> None:
    table = ARCHITECTURE.split("\n## Layers\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+\.", line)]
    layer = {name: number for number, row in enumerate(rows) for name in re.findall(r"`([\w.]+/?)`", row[column])}
    upwards = []
    for file in program.rglob("*.py"):
        top = file.relative_to(program).parts[0]
        top += "/" if (program / top).is_dir() else ""
        for target, module in _imported(file, program):
            is_upwards = top in layer and target in layer and layer[target] < layer[top]
            if is_upwards and not module.endswith("http.schemas"):
                upwards.append(f"{_name(file)} imports {module}")
    assert len(layer) > 10
    assert not upwards


@pytest.mark.parametrize("program", [AGENT, COLLECTOR], ids=_name)
def test_every_thread_is_in_the_architecture(program: Path) -> None:
    code = "\n".join(path.read_text() for path in program.rglob("*.py") if "demo" not in path.parts)
    section = ARCHITECTURE.split("\n## Threads and executors\n")[1].split("\n## ")[0]
    of_agent, of_collector = section.split("\n**The collector**")
    named = set(re.findall(r"^\| `(\w+)` \|", of_agent if program == AGENT else of_collector, re.MULTILINE))
    started = set(re.findall(r"""\bThread\([^()]*\bname="(\w+)"|thread_name_prefix="(\w+)\"""", code))
    assert {name for names in started for name in names if name} <= named
    assert not [name for name in named if f'"{name}"' not in code], "no thread or executor has this name"


# --- how pages are written ---------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert not [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and f"({page.name}" not in index
    ]


@pytest.mark.parametrize("page", DECISIONS, ids=_name)
def test_a_decision_says_question_choice_and_what_was_given_up(page: Path) -> None:
    number, _, slug = page.stem.partition("-")
    text = page.read_text()
    assert re.fullmatch(r"\d{4}", number)
    assert re.fullmatch(r"[a-z0-9-]+", slug)
    assert re.match(
        rf"# {number}: .+\n\n\d{{4}}-\d\d-\d\d, (accepted|replaced by \d{{4}})\.\n\n\*\*Question\.\*\* .+"
        r"\n\n\*\*Choice\.\*\* .+\n\n\*\*What we gave up\.\*\* .+",
        text,
        re.DOTALL,
    )


def test_decisions_are_numbered_without_gaps() -> None:
    assert [page.name[:4] for page in DECISIONS] == [f"{number:04d}" for number in range(1, len(DECISIONS) + 1)]


_OUTSIDE = re.compile(r"\.\./shared/|(?<![\w/#])/work/|\.library/|\b(?:design|style)\.md\b")


def test_nothing_points_out_of_the_repository() -> None:
    lines = []
    for path in FILES:
        if path == Path(__file__):
            continue
        try:
            lines += [f"{_name(path)}: {line}" for line in path.read_text().splitlines() if _OUTSIDE.search(line)]
        except UnicodeDecodeError:
            continue
    assert not lines


# --- the name of the distribution -------------------------------------------------------------------------------------

_INSTALLS = re.compile(
    r"\b(?:(?:pip3?|pipx|uv|conda|mamba|poetry|pdm)\b[^\n&|;]*?\b(?:install|add|download|run|wheel)|uvx|easy_install)\b([^\n&|;#]*)"
)
_OURS = re.compile(r"tokenyield(?:[-_.]\w+)*(?:\[[^\]]*\]?)?(?:[=<>~!@].*)?", re.IGNORECASE)
_IMAGE = re.compile(r"(?<![\w./-])tokenyield-(?:agent|collector):(?=\d)|repository: tokenyield-")


def _fetches_our_name(text: str) -> list[str]:
    """The lines that would have a package index, or a registry of images, give something that goes by our name."""
    lines = text.replace("\\\n", " ").splitlines()
    names = (
        (line, word) for line in lines for part in _INSTALLS.findall(line) for word in re.split(r"[\s\"'`,()]+", part)
    )
    return [line for line, word in names if _OURS.fullmatch(word) and not word.endswith(".whl")] + [
        line for line in lines if _IMAGE.search(line)
    ]


@pytest.mark.parametrize(
    ("line", "is_fetched"),
    [
        ("pip install 'tokenyield[collector]'", True),
        ("pip install tokenyield-fleet", True),
        ("python -m pip install --upgrade tokenyield_fleet==0.1.0", True),
        ("RUN pip install \\\n    tokenyield-fleet[collector,clickhouse]", True),
        ('[sys.executable, "-m", "pip", "install", "tokenyield-fleet"]', True),
        ("uvx tokenyield-fleet", True),
        ("podman run tokenyield-agent:0.1.0", True),
        ('image: {repository: tokenyield-agent, tag: ""}', True),
        ("pip install './dist/tokenyield_fleet-0.1.0-py3-none-any.whl[collector]'", False),
        ("sh -c 'pip install /wheels/tokenyield_fleet-*.whl && exec tokenyield-agent run'", False),
        ("pip install --editable '.[collector,dev]'", False),
        ("podman run localhost/tokenyield-agent:0.1.0", False),
        ("helm install tokenyield helm/tokenyield", False),
    ],
)
def test_a_line_that_installs_our_name_is_recognized(line: str, is_fetched: bool) -> None:
    assert bool(_fetches_our_name(line)) is is_fetched


def test_no_line_installs_our_name_from_an_index() -> None:
    lines = []
    for path in FILES:
        if path == Path(__file__):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        lines += [f"{_name(path)}: {line}" for line in _fetches_our_name(text)]
    assert not lines, "anyone may take a name that we have not published: give the path of a file that was built here"


def test_no_requirement_is_a_name_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    locked = [
        line
        for lock in (ROOT / "locks").glob("*.txt")
        for line in lock.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    assert not [line for line in [*declared, *locked] if line.lower().startswith("tokenyield")]
    assert project["name"] == "tokenyield-fleet"
