"""The Debian packages in a Debian booted by systemd-nspawn: installed, started as real units, upgraded, purged."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import make_certificates
from real.debian_root import NAME, Booted, booted

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0, reason="boots a Debian in namespaces, which needs root"),
]

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("TOKENYIELD_CACHE", ""))
AGENT, COLLECTOR = "tokenyield-agent", "tokenyield-collector"
EXPOSURE = {AGENT: 3.0, COLLECTOR: 2.0}
# Ports that nothing else here uses: the container has the host's network.
PORTS = """
sed -i 's/^gpu_reader: nvml/gpu_reader: none/; s/:9464/:19564/; s/^status_listen: .*/status_listen: 127.0.0.1:19565/' /etc/tokenyield/agent.yaml
sed -i 's/^listen: .*/listen: 127.0.0.1:19564/' /etc/tokenyield/collector.yaml
"""


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """What `make packages` built."""
    return {
        name: max((ROOT / "dist").glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime) for name in EXPOSURE
    }


@pytest.fixture(scope="module")
def machine(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    assert (CACHE / NAME / "made").exists(), "run: python tests/real/debian_root.py CACHE"
    with booted(CACHE, tmp_path_factory.mktemp("nspawn")) as running:
        for name, package in packages.items():
            running.put(package, f"/root/{name}.deb")
        running.run(f"dpkg -i /root/{AGENT}.deb /root/{COLLECTOR}.deb")
        running.run(PORTS)
        yield running


def until(machine: Booted, script: str, expected: str, timeout_s: float = 120) -> None:
    deadline_s = time.monotonic() + timeout_s
    while expected not in (output := machine.run(script, check=False)):
        assert time.monotonic() < deadline_s, f"{script}: expected {expected}, found {output}"
        time.sleep(0.3)


def test_installing_makes_users_and_starts_nothing(machine: Booted) -> None:
    for name in EXPOSURE:
        entry = machine.run(f"getent passwd {name}").strip().split(":")
        assert entry[-1] == "/usr/sbin/nologin"
        assert machine.run(f"systemctl is-active {name}", check=False).strip() == "inactive"
        assert machine.run(f"{name} check --config /etc/tokenyield/{name.removeprefix('tokenyield-')}.yaml")
        assert machine.run(f"systemd-analyze verify {name}.service") == ""


def test_the_units_are_hardened(machine: Booted) -> None:
    for name, exposure_max in EXPOSURE.items():
        exposure = re.search(
            r"exposure level for \S+: ([0-9.]+)", machine.run(f"systemd-analyze security {name}.service")
        )
        assert exposure is not None
        assert float(exposure[1]) < exposure_max


def test_both_run_as_units_and_batches_reach_the_ledger(machine: Booted) -> None:
    machine.run(f"systemctl enable --now {COLLECTOR} {AGENT}")
    until(machine, "curl -s http://127.0.0.1:19564/readyz", "ok")
    until(machine, "curl -s http://127.0.0.1:19565/readyz", "ok")
    until(
        machine,
        "curl -s http://127.0.0.1:19564/metrics",
        'tokenyield_collector_nodes{cluster="default",state="reporting"} 1.0',
        120,
    )
    for name in EXPOSURE:
        properties = machine.run(f"systemctl show {name} -p User -p StatusErrno -p Type -p NRestarts -p MemoryCurrent")
        assert f"User={name}" in properties
        assert "Type=notify" in properties
        assert "NRestarts=0" in properties
    owner = machine.run("stat -c '%U %a' /var/lib/tokenyield-agent /var/lib/tokenyield-collector").split("\n")
    assert owner[:2] == [f"{AGENT} 750", f"{COLLECTOR} 750"]


def test_reload_kill_and_hang(machine: Booted) -> None:
    pid = machine.run(f"systemctl show {AGENT} -p MainPID --value").strip()
    machine.run(f"systemctl reload {AGENT}")
    until(machine, f"journalctl -u {AGENT} --no-pager", "workloads reloaded")
    assert machine.run(f"systemctl show {AGENT} -p MainPID --value").strip() == pid
    machine.run(f"kill -KILL $(systemctl show {COLLECTOR} -p MainPID --value)")
    until(machine, f"systemctl show {COLLECTOR} -p NRestarts", "NRestarts=1")
    until(machine, "curl -s http://127.0.0.1:19564/readyz", "ok")
    # A hung agent is noticed by its watchdog, which is set to a shorter time here.
    machine.run(f"mkdir -p /run/systemd/system/{AGENT}.service.d")
    machine.run(
        f"printf '[Service]\\nWatchdogSec=3\\nRestartSec=0\\n' > /run/systemd/system/{AGENT}.service.d/test.conf"
    )
    machine.run(f"systemctl daemon-reload && systemctl restart {AGENT}")
    machine.run(f"kill -STOP $(systemctl show {AGENT} -p MainPID --value)")
    until(machine, f"journalctl -u {AGENT} --no-pager", "Watchdog timeout")
    until(machine, f"systemctl is-active {AGENT}", "active")


def test_an_upgrade_keeps_state_and_configuration(machine: Booted, packages: dict[str, Path], tmp_path: Path) -> None:
    identity = machine.run("cat /var/lib/tokenyield-agent/agent_id")
    machine.run("echo '# mine' >> /etc/tokenyield/agent.yaml")
    unpacked = tmp_path / "new"
    subprocess.run(["dpkg-deb", "-R", str(packages[AGENT]), str(unpacked)], check=True)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 99", control.read_text(), flags=re.MULTILINE))
    newer = tmp_path / "new.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(unpacked), str(newer)], check=True, capture_output=True)
    shutil.rmtree(unpacked)
    machine.put(newer, "/root/new.deb")
    before = machine.run(f"systemctl show {AGENT} -p MainPID --value")
    machine.run("DEBIAN_FRONTEND=noninteractive dpkg -i /root/new.deb < /dev/null")
    assert "# mine" in machine.run("cat /etc/tokenyield/agent.yaml")
    assert machine.run("cat /var/lib/tokenyield-agent/agent_id") == identity
    until(machine, f"systemctl is-active {AGENT}", "active")
    assert machine.run(f"systemctl show {AGENT} -p MainPID --value") != before, "the new version must run"


def test_purging_leaves_nothing_but_the_user(machine: Booted) -> None:
    machine.run(f"dpkg --purge {AGENT} {COLLECTOR}")
    remaining = machine.run(
        "ls -d /var/lib/tokenyield* /etc/tokenyield /opt/tokenyield* /usr/bin/tokenyield* 2>/dev/null", check=False
    )
    assert remaining == ""
    assert machine.run(f"systemctl is-active {AGENT}", check=False).strip() in ("inactive", "unknown", "failed")


def test_the_tarball_is_the_same_tree(packages: dict[str, Path]) -> None:
    for package in packages.values():
        archive = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, check=True
        ).stdout
        of_deb = (
            subprocess.run(["tar", "-t"], input=archive, stdout=subprocess.PIPE, check=True).stdout.decode().split()
        )
        tarball = str(package).removesuffix(".deb") + ".tar.gz"
        of_tarball = (
            subprocess.run(["tar", "-tzf", tarball], stdout=subprocess.PIPE, check=True).stdout.decode().split()
        )
        assert sorted(of_deb) == sorted(of_tarball)


def test_the_readme_installs_both(packages: dict[str, Path], tmp_path: Path) -> None:
    """The README's commands as they are written, except for the names that are the reader's own."""
    text = (ROOT / "README.md").read_text()
    central, host = re.findall(r"```sh\n(sudo dpkg -i .*?)```", text, re.DOTALL)
    make_certificates(tmp_path)
    with booted(CACHE, tmp_path) as machine:
        machine.run("mkdir /root/dist")
        for package in packages.values():
            machine.put(package, f"/root/dist/{package.name}")
        for name, target in (("server.crt", "tls.crt"), ("server.key", "tls.key"), ("ca.crt", "ca.crt")):
            machine.put(tmp_path / name, f"/root/{target}")
        own = 'cd /root; set -ex; sudo() { "$@"; }\n'
        output = machine.run(own + central.replace("0.0.0.0:9464", "0.0.0.0:19574"))
        readers, secret = re.findall(r"^tyb?_\S+$", output, re.MULTILINE)
        assert machine.run("stat -c '%U %G %a' /etc/tokenyield/tokens").strip() == f"root {COLLECTOR} 640"
        assert readers not in machine.run("cat /etc/tokenyield/tokens")
        host = host.replace("tyb_the_secret", secret).replace("collector.example.com:9464", "127.0.0.1:19574")
        host = host.replace("EOF\necho", "gpu_reader: none\nstatus_listen: 127.0.0.1:19575\nEOF\necho")
        machine.run(own + host)
        scrape = "curl -s --cacert /root/ca.crt https://127.0.0.1:19574/metrics -H 'Authorization: Bearer %s'"
        until(machine, scrape % readers, 'tokenyield_collector_nodes{cluster="my-cluster",state="reporting"} 1.0', 90)
        kept = "/var/lib/tokenyield-agent/collector_token /var/lib/tokenyield-collector/enrol/*"
        assert machine.run(f"stat -c '%U %a' {kept}").split("\n")[:3] == [f"{AGENT} 600"] + [f"{COLLECTOR} 600"] * 2
        (of_node,) = re.findall(r"tyn_[\w.-]+", machine.run("cat /var/lib/tokenyield-agent/collector_token"))
        assert "tokenyield_" not in machine.run(scrape % of_node)
        log = machine.run("journalctl --no-pager")
        assert secret not in log
        assert of_node not in log
        holders = machine.run(f"grep -rIl -e {secret} -e {of_node} /etc /var/lib /var/log", check=False)
        assert holders.split() == ["/var/lib/tokenyield-agent/collector_token"]
