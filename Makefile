# make demo    registry + three nodes + one federated job, on this machine (DATA=DIR for real collections, ARGS=--exit to end)
# make test    everything the default suite holds, in its own .venv
# make test-all  adds tests that take long, browser, real data, peers and a seeded few of each fault suite
# make viewers fetches the image viewers of others that the browser tests try our manifests in (npm, 10 MB)
# make soak    the full counts of the fault suites;  make bench  ratios against peers (many minutes; one file of benchmarks/ or `bench_index.py scan` alone takes few)
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= cpu,ipfs,s3,dev
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
comma := ,
export ORT_DISABLE_TELEMETRY := 1
export VASCULUM_SHARED ?= $(abspath ../shared)

.PHONY: demo test test-all viewers soak bench accuracy check format clean install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tests/peers/iiif/requirements.txt
	@test -x $(BIN)/python || { command -v $(PYTHON) >/dev/null && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 13)))' || { echo "Vasculum needs Python 3.11 or 3.12"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	$(if $(findstring dev,$(EXTRAS)),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/peers/iiif/requirements.txt)
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/vasculum demo $(if $(DATA),--data $(DATA)) $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup $(PYTEST)
	@$(BIN)/python tests/what_did_not_run.py

test-all: $(STAMP)
	$(BIN)/python tests/run_tiers.py long browser real_data peer ipfs fault

viewers:
	cd tests/peers/iiif && npm pack --silent mirador@4.0.0 universalviewer@4.4.0

soak: $(STAMP)
	$(BIN)/python tests/run_tiers.py soak

bench: $(STAMP)
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
