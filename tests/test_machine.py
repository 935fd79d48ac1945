"""What watches that no test depends on this machine (machine.py) sees what it should."""

import os
from pathlib import Path

import pytest

import machine
from tokenyield_agent.config import Settings
from tokenyield_agent.shipping.shipper import Shipper
from tokenyield_agent.shipping.spool import Spool


def test_a_path_of_an_installed_program_is_noted_whether_it_is_there_or_not() -> None:
    for folder in machine.INSTALLED:
        absent = Path(f"{folder}-absent/file")
        with pytest.raises(OSError, match="No such file"):
            absent.read_text()
        assert not absent.exists()
        assert machine.touched == [f"open {absent}", f"os.stat {absent}"]
        machine.touched.clear()


def test_a_shipper_with_the_folder_of_the_installed_agent_is_noted(tmp_path: Path) -> None:
    """The fault of CI that this is for: a test of the shipper read the token of an agent that had been tried by hand."""
    spool = Spool(tmp_path / "spool", bytes_max=1 << 20, keep_bytes=1 << 19)
    shipper = Shipper(Settings(collector_url="http://127.0.0.1:9", node="n1"), spool, "a1")
    shipper._authorization()
    assert machine.touched.pop(0) == "os.stat /var/lib/tokenyield-agent/collector_token"
    machine.touched.clear()  # of a machine that has one: it is read


def test_no_setting_of_the_environment_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENYIELD_AGENT_NODE", "left-behind")
    machine.forget_settings()
    assert [name for name in os.environ if name.startswith(machine.SETTINGS)] == []
