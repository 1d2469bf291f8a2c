# Paths are relative throughout: this folder's own path may hold spaces.
SHELL := /bin/sh
BIN := .venv/bin
DATA ?= data
PORT ?= 8080
PYTEST_ARGS ?=
SCENARIO ?= fleet
LOAD_ARGS ?=
CLIPS ?= 5000
YEAR_ARGS ?=
EXAMPLES ?= 200
MINUTES ?= 10

# Dozens of short-lived processes are started; each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run demo test check bench load compare capacity year chaos tools lock contract slow protocol schema page pictures

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

install: ## make .venv from the lock files
	@sh requirements/install.sh

run: install ## everything on this machine (DATA=folder PORT=number)
	@exec $(BIN)/python -m ingest_service dev --data "$(DATA)" --port "$(PORT)"

demo: install ## a real clip through cuts and a crash to secured evidence
	@exec $(BIN)/python -m ingest_service demo

test: install ## all tests, on real Postgres and S3
	@exec $(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

check: install ## format, lint, types, import directions, deploy files, known vulnerabilities
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run()'
	@$(BIN)/python -m pytest -q tests/deploy
	@$(BIN)/python requirements/audit.py

bench: install ## CPU and throughput of the upload path
	@$(BIN)/python -m loadtest.bench

load: install ## a load test with a verdict (SCENARIO=fleet|shift|herd|soak|peak)
	@$(BIN)/python -m loadtest run $(SCENARIO) $(LOAD_ARGS)

compare: install ## this service beside other upload servers (COMPARE_ARGS=...)
	@$(BIN)/python -m loadtest.peers $(COMPARE_ARGS)

capacity: install ## what the fleet's day needs, computed; writes docs/capacity.md
	@$(BIN)/python -m loadtest.capacity $(CAPACITY_ARGS)

year: install ## a year of CLIPS=5000 with erasures, holds, disclosures; every clip accounted for
	@$(BIN)/python -m loadtest.year --clips "$(CLIPS)" $(YEAR_ARGS)

chaos: install ## MINUTES=10 of faults of every kind while docks upload; then everything is read again
	@$(BIN)/python -m loadtest.chaos --minutes "$(MINUTES)" $(CHAOS_ARGS)

tools: install ## helm, kubectl, hadolint and schemas, for the tests of deploy/
	@sh requirements/tools.sh

lock: install ## remake the lock files (UPGRADE=--upgrade takes newer versions)
	@sh requirements/lock.sh $(UPGRADE)

contract: install ## many requests to every call of the OpenAPI document (EXAMPLES=200)
	@INGEST_CONTRACT_EXAMPLES="$(EXAMPLES)" $(BIN)/python -m pytest -q -n 2 tests/api/test_contract.py

slow: install ## 2,000 callers who trickle, and the rate that honest docks keep
	@INGEST_SLOW_CALLERS=2000 $(BIN)/python -m pytest -q -s tests/api/test_slow_callers.py

protocol: install ## which line of the upload protocols holds, was decided, or fails
	@$(BIN)/python -m tests.protocol.table

schema: install ## remake schemas/ (ledger.sql, openapi.json, JSON Schemas) and docs/metrics.md
	@$(BIN)/python -m ingest_service.dev.schema > schemas/ledger.sql
	@$(BIN)/python -m ingest_service openapi > schemas/openapi.json
	@$(BIN)/python -m ingest_service schemas schemas
	@$(BIN)/python -m ingest_service.dev.metrics > docs/metrics.md

pictures: install ## take the pictures of /ops and `ingest top` anew, under a load (5 minutes)
	@$(BIN)/python -m tests.e2e.take_pictures

page: ## remake the bundle of Uppy for /upload (needs Node and npm)
	@sh web/uppy/build.sh
