# One way to do each thing, the same on a laptop and in CI. Needs Python 3.11+, make, and for test-real apt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tokenyield
DEMO_SECONDS ?= 60
TEST_PROCESSES ?= logical
# Folders of tests, in memory where there are 4 GB for them: a commit of a ledger waits 3 ms for a disk, and the suite has thousands.
TEST_FOLDERS ?= $(shell awk '$$2 == "/dev/shm" && $$4 !~ /noexec/' /proc/mounts 2>/dev/null | grep -q . && df -Pk /dev/shm | awk 'NR > 1 && $$4 > 4000000 {print $$6}')
REAL_PROCESSES ?= 0
FUZZ_EXAMPLES ?= 20000
FUZZ_SECONDS ?= 3600
FUZZ_ENGINES ?= duckdb clickhouse
FUZZ_TARGETS ?= batches spool logs endpoints prices rules
SCHEDULES ?= 10000
LIAR_SCHEDULES ?= 5000
HOSTILE_SCHEDULES ?= 100
PROGRAM_SCHEDULES ?= 200
STAMP := $(VENV)/.installed
VENDOR := collector/tokenyield_collector/web/static/vendor

PACKAGED := $(shell find agent collector locks systemd -type f ! -name '*.pyc') pyproject.toml README.md LICENSE
export PYTHONDONTWRITEBYTECODE := # a test starts our programs hundreds of times: they are compiled once

.PHONY: help setup demo test test-real test-kube real-programs real-caches faults faults-liar faults-hostile faults-programs fuzz lint format bench docs dashboards web wheel packages images audit release locks clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@PYTHON=$(PYTHON) .ci/need $(PYTHON):python3 venv:python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[collector,dev]'
	touch $@

setup: $(STAMP) ## make a virtual environment with everything in it

demo: setup ## run collector and agent on this host with a live table, DEMO_SECONDS=60 (0: until Ctrl-C)
	$(BIN)/tokenyield-collector demo --duration $(DEMO_SECONDS)

test: setup ## run all tests that need no third-party server, on all cores (TEST_PROCESSES=logical); needs cc for the NVML stand-in
	@.ci/need cc:gcc /usr/include/stdio.h:libc6-dev
	PYTEST_DEBUG_TEMPROOT=$(TEST_FOLDERS) $(BIN)/python -m pytest -m "not real" -o tmp_path_retention_policy=failed -n $(TEST_PROCESSES) --dist worksteal

test-real: setup web packages real-programs real-caches ## run the tests against real programs: llama-server, LiteLLM, helm (in $(CACHE)), Prometheus, Chromium, buildah
	TOKENYIELD_CACHE=$(CACHE) $(BIN)/python -m pytest -m real -n $(REAL_PROCESSES) --dist loadfile --ignore tests/real/test_gpu_bench.py --ignore tests/kube
	$(BIN)/python -m pytest -m real tests/real/test_gpu_bench.py # it measures, so nothing runs beside it

real-programs: ## install what Debian has of the programs that test-real runs
	@.ci/need cc:gcc g++:g++ /usr/include/stdio.h:libc6-dev cmake:cmake ninja:ninja-build promtool:prometheus \
		journalctl:systemd ip:iproute2 /lib/systemd/systemd-journal-remote:systemd-journal-remote \
		prometheus-alertmanager:prometheus-alertmanager chromium:chromium \
		docker-registry:docker-registry /usr/sbin/dnsmasq:dnsmasq-base /usr/sbin/squid:squid gpg:gnupg slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge dockerd:docker.io \
		/usr/lib/$$(uname -m)-linux-gnu/faketime/libfaketime.so.1:libfaketime tmux:tmux minisign:minisign \
		clickhouse-server:clickhouse-server debootstrap:debootstrap systemd-nspawn:systemd-container buildah:buildah

test-kube: setup packages ## run the chart on a real Kubernetes node, as root; the node's programs are built into $(CACHE) once
	@.ci/need cc:gcc g++:g++ /usr/include/stdio.h:libc6-dev cmake:cmake ninja:ninja-build buildah:buildah debootstrap:debootstrap ip:iproute2 \
		etcd:etcd-server containerd:containerd runc:runc /usr/lib/cni/bridge:containernetworking-plugins iptables:iptables conntrack:conntrack
	$(BIN)/python tests/real/build_helm.py $(CACHE)
	$(BIN)/python tests/real/debian_root.py $(CACHE)
	TOKENYIELD_CACHE=$(CACHE) $(BIN)/python tests/real/build_llama_server.py $(CACHE)
	$(BIN)/python tests/kube/build_kubernetes.py $(CACHE)
	TOKENYIELD_CACHE=$(CACHE) $(BIN)/python -m pytest -m real tests/kube

real-caches: setup ## fetch and build the others into $(CACHE), once; half an hour on 2 cores
	TOKENYIELD_CACHE=$(CACHE) $(BIN)/python tests/real/build_llama_server.py $(CACHE)
	$(BIN)/python tests/real/own_venv.py $(CACHE)
	$(BIN)/python tests/real/build_helm.py $(CACHE)
	[ "$$(id -u)" != 0 ] || $(BIN)/python tests/real/debian_root.py $(CACHE)
	[ "$$(id -u)" != 0 ] || $(BIN)/python tests/kube/build_kubernetes.py $(CACHE)

faults: setup ## run SCHEDULES=10000 seeded schedules of kills, damage, partitions, clock steps; all sums must balance after each
	PYTHONPATH=agent:collector:tests $(BIN)/python -m faults.world --schedules $(SCHEDULES)

faults-liar: setup ## run LIAR_SCHEDULES=5000 of them beside a node that lies; every figure of the others must be as without it
	PYTHONPATH=agent:collector:tests $(BIN)/python -m faults.world --liar --schedules $(LIAR_SCHEDULES)

faults-hostile: setup ## run HOSTILE_SCHEDULES=100 of a hostile node and hostile tenants against the running programs
	@.ci/need cc:gcc /usr/include/stdio.h:libc6-dev
	PYTHONPATH=agent:collector:tests $(BIN)/python -m faults.hostile_programs --schedules $(HOSTILE_SCHEDULES)

faults-programs: setup ## run PROGRAM_SCHEDULES=200 of them against the running programs; needs root and libfaketime for all faults
	@.ci/need cc:gcc /usr/include/stdio.h:libc6-dev /usr/lib/$$(uname -m)-linux-gnu/faketime/libfaketime.so.1:libfaketime
	PYTHONPATH=agent:collector:tests $(BIN)/python -m faults.programs --schedules $(PROGRAM_SCHEDULES)

fuzz: setup ## run atheris for FUZZ_SECONDS=3600 on each of FUZZ_TARGETS, FUZZ_EXAMPLES=20000 mutated logs for each dialect, and lies to ledgers of FUZZ_ENGINES for FUZZ_SECONDS
	$(BIN)/pip install --quiet --disable-pip-version-check atheris
	for target in $(FUZZ_TARGETS); do $(BIN)/python tests/fuzz.py $$target --seconds $(FUZZ_SECONDS) || exit 1; done
	TOKENYIELD_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q --timeout 0 tests/agent/tokens/dialects/test_recorded_logs.py -k mutated
	for engine in $(FUZZ_ENGINES); do \
	  PYTHONPATH=agent:collector:tests TOKENYIELD_CACHE=$(CACHE) $(BIN)/python -m fuzz_ledger --seconds $(FUZZ_SECONDS) --engine $$engine || exit 1; done

lint: setup ## run ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format and sort with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## run all benchmarks, JSON to standard output
	$(BIN)/python bench/run.py

docs: setup ## generate the pages of docs/ that are made from the code
	$(BIN)/python docs/generate.py

dashboards: setup ## generate the Grafana dashboards from collector/dashboards/
	PYTHONPATH=collector $(BIN)/python collector/dashboards/generate.py

web: ## check the page's scripts, and copy its plotting library from npm
	@.ci/need npm:npm
	mkdir -p $(CACHE)/web && cp collector/web/package.json collector/web/package-lock.json $(CACHE)/web/
	npm ci --prefix $(CACHE)/web --no-audit --no-fund --loglevel error
	$(CACHE)/web/node_modules/.bin/tsc --project collector/web
	cp $(addprefix $(CACHE)/web/node_modules/uplot/dist/,uPlot.iife.min.js uPlot.min.css) $(VENDOR)
	cp $(CACHE)/web/node_modules/uplot/LICENSE $(VENDOR)/uPlot.LICENSE.txt

wheel: dist/.wheel ## build the wheel into dist/, in place of an older one

dist/.wheel: $(STAMP) $(PACKAGED) build/commit
	rm -f dist/tokenyield*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	touch $@

packages: dist/.packages ## build Debian packages and tarballs of agent and collector, each with its own environment, into dist/

dist/.packages: dist/.wheel
	@PYTHON=/usr/bin/python3 .ci/need dpkg-deb:dpkg venv:python3-venv
	systemd/build-packages dist/tokenyield_fleet-*.whl
	touch $@

build/commit: FORCE # its time is that of the packages' files
	@mkdir -p build dist
	@git rev-parse HEAD 2>/dev/null | cmp -s - $@ || git rev-parse HEAD >$@ 2>/dev/null || touch $@

FORCE:

images: packages ## build images, and their SBOMs, with buildah; BASE=folder or name@sha256:…, default debootstrap; SNAPSHOT=20261101T000000Z
	@.ci/need buildah:buildah
	@[ -n "$(BASE)" ] || .ci/need debootstrap:debootstrap
	@[ -n "$(BASE)" ] || SNAPSHOT=$(SNAPSHOT) $(BIN)/python tests/real/debian_root.py $(CACHE)
	SNAPSHOT=$(SNAPSHOT) SBOMS=dist containers/build $(or $(BASE),$(CACHE)/debian-bookworm$(addprefix -,$(SNAPSHOT)))

audit: setup packages ## check what we ship for known vulnerabilities, and fail where that cannot be judged; write SBOMs into dist/
	$(BIN)/python tests/real/own_venv.py $(CACHE)
	.ci/audit $(AUDIT_FLAGS) $(CACHE)/audit-$$($(BIN)/python tests/real/own_venv.py --version audit)/bin dist

release: ## build all that a release has and dist/SHA256SUMS; needs SNAPSHOT, a clean tree, and an audit that judged everything
	@[ -n "$(SNAPSHOT)" ] || { echo "release: expected SNAPSHOT=, found none; give a time of snapshot.debian.org as 20261101T000000Z"; exit 1; }
	@[ -z "$$(git status --porcelain)" ] || { echo "release: expected a clean tree, found changes; commit them"; exit 1; }
	rm -rf dist && $(MAKE) audit AUDIT_FLAGS= && $(MAKE) images
	"$$($(BIN)/python tests/real/build_helm.py $(CACHE))" package helm/tokenyield --destination dist
	cd dist && sha256sum -- *.whl *.deb *.tar.gz *.tgz *.cdx.json >SHA256SUMS
	@echo "now sign dist/SHA256SUMS: docs/release.md"

locks: setup ## update locks/*.txt: the newest versions that pyproject.toml allows, and pip, with hashes
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	for extra in "agent:kubernetes" "collector:collector --extra clickhouse"; do \
		$(BIN)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 --generate-hashes --no-header --quiet \
			--no-emit-find-links --no-emit-index-url --extra $${extra#*:} --output-file locks/$${extra%:*}.txt; done
	echo pip | $(BIN)/uv pip compile - --upgrade --universal --python-version 3.11 --generate-hashes --no-header --quiet \
		--no-emit-find-links --no-emit-index-url --no-annotate --output-file locks/build.txt

clean: ## remove everything that was built
	rm -rf $(VENV) dist build
