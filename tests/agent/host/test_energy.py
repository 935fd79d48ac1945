"""The host's own energy, on the kernel's files and on a management controller that a script plays."""

import stat
import time
from pathlib import Path

import pytest

from harness import wait_until
from tokenyield_agent.host import energy as host_energy
from tokenyield_agent.host.energy import Dcmi, HostEnergy, HostMeter
from tokenyield_agent.windows.builder import WindowBuilder


def zone(root: Path, number: str, name: str, uj: int, most_uj: int = 262_143_328_850) -> Path:
    folder = root / "class" / "powercap" / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{most_uj}\n")
    return folder / "energy_uj"


def test_rapl_counts_packages_and_memory_beside_them(tmp_path: Path) -> None:
    first = zone(tmp_path, "0", "package-0", 5_000_000)
    second = zone(tmp_path, "1", "package-1", 100)
    memory = zone(tmp_path, "0:1", "dram", 7_000)
    core = zone(tmp_path, "0:0", "core", 1)
    zone(tmp_path, "2", "psys", 9)
    meter = HostMeter("auto", str(tmp_path))
    assert meter.source == "rapl"
    assert meter.read(0.0) is None, "what the counters stand at was before us"
    first.write_text("6000000\n")
    second.write_text("2000100\n")
    memory.write_text("507000\n")
    core.write_text("900000\n")
    assert meter.read(1.0) == HostEnergy(3_500, "rapl")


def test_a_counter_that_wrapped_goes_on(tmp_path: Path) -> None:
    counter = zone(tmp_path, "0", "package-0", 9_000_000, 10_000_000)
    meter = HostMeter("rapl", str(tmp_path))
    meter.read(0.0)
    counter.write_text("1000000\n")
    assert meter.read(1.0) == HostEnergy(2_000, "rapl")


def test_a_meter_that_fails_is_reported_once_and_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counter = zone(tmp_path, "0", "package-0", 1_000)
    meter = HostMeter("auto", str(tmp_path))
    meter.read(0.0)
    counter.write_text("nonsense")
    assert (meter.read(1.0), meter.read(2.0)) == (None, None)
    assert caplog.text.count("cannot be read") == 1
    counter.write_text("2001000")
    assert meter.read(3.0) == HostEnergy(2_000, "rapl")


def test_the_whole_machine_comes_before_a_part_of_it(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1)
    folder = tmp_path / "class" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    (folder / "name").write_text("power_meter\n")
    (folder / "power1_average").write_text("400000000\n")
    meter = HostMeter("auto", str(tmp_path))
    assert (meter.source, meter.read(10.0)) == ("power_meter", None)
    (folder / "power1_average").write_text("600000000\n")
    assert meter.read(12.0) == HostEnergy(1_000_000, "power_meter")
    assert meter.read(12.0 + host_energy.GAP_S_MAX + 1) is None


def test_nothing_is_read_where_nothing_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert HostMeter("auto", str(tmp_path)).source is None
    assert caplog.text == ""
    assert HostMeter("rapl", str(tmp_path)).read(0.0) is None
    assert "host_energy: rapl cannot be read here" in caplog.text
    zone(tmp_path, "0", "package-0", 1)
    assert HostMeter("off", str(tmp_path)).source is None


def test_a_management_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "ipmitool"
    tool.write_text("#!/bin/sh\nprintf '\\n    Instantaneous power reading:                   880 Watts\\n'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(host_energy, "DCMI_EVERY_S", 0.1)
    (tmp_path / "ipmi0").touch()
    meter = Dcmi(str(tmp_path / "ipmi0"))
    assert meter.is_there()
    assert meter.read(0.0) is None
    started_s, used = time.monotonic(), [0]

    def is_read() -> bool:
        used.append(meter.read(0.0) or 0)
        return sum(used) > 0

    wait_until(is_read, what="the controller was asked twice")
    assert 0 < sum(used) <= 880_000 * (time.monotonic() - started_s)
    meter.close()
    tool.write_text("#!/bin/sh\necho no DCMI here >&2\nexit 1\n")
    assert not Dcmi(str(tmp_path / "ipmi0")).is_there()


def test_it_is_laid_on_the_newest_window() -> None:
    builder = WindowBuilder(length_ms=15_000, settle_ms=0)
    builder.jump(30_000)
    builder.extend(50_000, [])
    builder.add_host_energy(700, "rapl")
    builder.add_host_energy(300, "rapl")
    assert [batch.host_energy_mj for batch in builder.batches(2, {}, 1)] == [{}, {"rapl": 1_000}]
