"""A reader is found by its setting, and only the one that is used is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tokenyield_agent.errors import SetUpError
from tokenyield_agent.gpu import HARDWARE_READERS, READERS
from tokenyield_agent.gpu.readers import open_bounded_reader, open_reader
from tokenyield_agent.gpu.reading import ReaderOptions


def test_every_reader_has_a_module() -> None:
    root = Path(__file__).parents[3] / "agent"
    for module in READERS.values():
        path = root / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_a_vendors_binding_is_imported_only_where_it_is_used() -> None:
    code = (
        "import json, sys; from tokenyield_agent.config import Settings; "
        "from tokenyield_agent.gpu.readers import open_reader; from tokenyield_agent.gpu.reading import ReaderOptions; "
        "open_reader('none', ReaderOptions()); print(json.dumps(sorted(sys.modules)))"
    )
    call = [sys.executable, "-c", f"import sys; sys.path = {sys.path!r}; {code}"]
    modules = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)
    assert not {"pynvml", *HARDWARE_READERS.values()} & set(modules)


def test_a_node_without_gpus_reads_none() -> None:
    reader = open_bounded_reader("none", ReaderOptions(), read_s_max=1)
    assert (reader.read().gpus, dict(reader.faults), reader.read_seconds) == ((), {}, 0)
    reader.close()


def test_a_trace_of_another_version_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "old.jsonl"
    trace.write_text('{"trace":1,"label":"old","real_gpu":true}\n')
    with pytest.raises(SetUpError, match="expected a trace of version 2, found version 1; record it again"):
        open_reader("trace", ReaderOptions(trace_file=str(trace)))
