# `make up` and `make test` need Python ≥ 3.11, git and make; all else is installed into .venv from the hashed lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
UV_LOCK := .venv/uv.lock.txt
CLIENTS := .venv/clients
BROWSER := .venv/browser
MANIFESTS := .venv/manifests
MUTATION := .venv/mutation
AUDIT := .venv/audit
TRITON := .venv/triton
CONTRACTS := protos/contracts.binpb
GPU_TESTS := .venv/.gpu-tests
SYSTEM_TESTS := tests/pipeline tests/workers tests/fuzz tests/faults
UV := $(BIN)/uv

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36mmake %-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(STAMP) ## Prepare everything, start the eight processes, show a real prediction
	@$(BIN)/headrace up

down: $(STAMP) ## Stop them; nothing is left running
	@$(BIN)/headrace down

test-fast: $(STAMP) ## In a minute: the tests that need no socket and no process (tests/fast.py), on all cores
	@$(BIN)/python -m pytest -q -p tests.fast -n auto --dist worksteal $(addprefix --ignore=,$(SYSTEM_TESTS))

test: $(STAMP) $(CLIENTS)/.installed ## What CI runs: all tests but the slow ones, in three lanes (tests/lanes.py)
	@$(BIN)/python -m tests.lanes

test-slow: $(STAMP) $(CLIENTS)/.installed $(BROWSER)/.installed $(MANIFESTS)/.installed ## What takes longer: statistics of many runs, images, clusters (marker `slow`); goes on where it stopped (OPTIONS="--list")
	@$(BIN)/python -m tests.slow $(OPTIONS)

mutants: $(MUTATION)/.installed ## Whether the tests notice changed code: 420 random mutants (a quarter of an hour); tests/mutation/README.md
	@$(BIN)/python -m tests.mutation

gpu-tests: $(GPU_TESTS) ## What tests/gpu runs on without a GPU (a download of 106 MB); CI has it

peers: $(TRITON)/.installed ## A real server for the tests: Triton; CI has it

# Each step writes to a file of its own, so that they can run at once; the slowest is mypy, whose cache makes the second run short.
check: $(STAMP) ## Contracts, lint, types and import rules, all at once, with each one's time
	@$(BIN)/python .ci/check.py

images: $(STAMP) ## Container images by podman, one a service (SERVICES="router ingress": only these; executor-gpu by name alone); sizes and digests
	@$(BIN)/python -m deploy.images build $(SERVICES) $(if $(WHEELS),--wheels $(WHEELS))

images-locks: $(STAMP) ## What each image installs, from pyproject.toml and requirements.lock
	@$(BIN)/python -m deploy.images locks

scan: $(AUDIT)/.installed ## Known vulnerabilities of all that the locks name, by PyPI's advisories (OPTIONS="--ignore-vuln ID")
	@for lock in requirements.lock deploy/images/gpu/requirements.lock; do $(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock $(OPTIONS) || exit 1; done

contracts: $(STAMP) ## Takes the contracts as they are for the released ones; BREAKING=yes even if a caller of the old ones would break
	@test "$(BREAKING)" = yes || $(BIN)/buf breaking --against $(CONTRACTS)
	$(BIN)/buf build --exclude-source-info -o $(CONTRACTS)

generate: $(STAMP) ## Generated code from protos/, into its own rooms
	find libs/headrace/api libs/headrace/oip -name '*_pb2*' -delete
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=libs --pyi_out=libs --grpc_python_out=libs $$(cd protos && find headrace -name '*.proto' | sort)
	$(BIN)/python -m grpc_tools.protoc -Iheadrace/oip=protos/inference --python_out=libs --pyi_out=libs --grpc_python_out=libs headrace/oip/open_inference.proto

lock: ## Resolve the dependencies anew, with hashes and without index addresses
	@test -x $(UV) || $(MAKE) $(STAMP)
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --extra all --group dev pyproject.toml -o requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/clients/requirements.in -o tests/clients/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/browser/requirements.in -o tests/browser/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/manifests/requirements.in -o tests/manifests/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -c requirements.lock tests/gpu/requirements.in -o tests/gpu/requirements.lock
	for name in requirements compile; do $(UV) pip compile -q --python-version 3.13 --universal --generate-hashes --no-emit-index-url --no-header -c requirements.lock deploy/images/gpu/$$name.in -o deploy/images/gpu/$$name.lock; done
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/mutation/requirements.in -o tests/mutation/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header .ci/audit/requirements.in -o .ci/audit/requirements.lock
	$(UV) pip compile -q --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header tests/servers/triton.in -o tests/servers/triton.lock

$(STAMP): requirements.lock pyproject.toml
	@echo "installing into .venv (once, about a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@awk '/^[a-z]/ {keep = /^uv==/} keep' requirements.lock > $(UV_LOCK)
	@test -x $(UV) || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(UV_LOCK)
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -m services.ingress.lane.library
	@touch $@

$(CLIENTS)/.installed: tests/clients/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(CLIENTS)
	@$(UV) pip sync -q --python $(CLIENTS)/bin/python --require-hashes tests/clients/requirements.lock
	@touch $@

$(TRITON)/.installed: tests/servers/triton.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(TRITON)
	@$(UV) pip sync -q --python $(TRITON)/bin/python --require-hashes tests/servers/triton.lock
	@touch $@

$(BROWSER)/.installed: tests/browser/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(BROWSER)
	@$(UV) pip sync -q --python $(BROWSER)/bin/python --require-hashes tests/browser/requirements.lock
	@touch $@

$(MANIFESTS)/.installed: tests/manifests/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(MANIFESTS)
	@$(UV) pip sync -q --python $(MANIFESTS)/bin/python --require-hashes tests/manifests/requirements.lock
	@touch $@

$(AUDIT)/.installed: .ci/audit/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(AUDIT)
	@$(UV) pip sync -q --python $(AUDIT)/bin/python --require-hashes .ci/audit/requirements.lock
	@touch $@

$(MUTATION)/.installed: tests/mutation/requirements.lock | $(STAMP)
	@$(UV) venv -q --allow-existing --python $(BIN)/python $(MUTATION)
	@$(UV) pip sync -q --python $(MUTATION)/bin/python --require-hashes tests/mutation/requirements.lock
	@touch $@

# Behind the sync, which takes away what is not in its lock. tensorrt-rtx-cu13 has no wheel; setuptools is there (grpcio-tools).
$(GPU_TESTS): tests/gpu/requirements.lock $(STAMP)
	@$(UV) pip install -q --python $(BIN)/python --no-build-isolation --require-hashes -r tests/gpu/requirements.lock
	@touch $@

.PHONY: help up down test-fast test test-slow mutants gpu-tests peers check images images-locks scan contracts generate lock
