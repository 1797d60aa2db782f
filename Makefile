# Set-up and the two commands. Everything else is a plain tool: `.venv/bin/fbt --help`, pytest, ruff.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-alone test-runs test-service

help:
	@echo 'make demo          the whole way on the demo data, until Ctrl-C'
	@echo 'make demo CHECK=1  the same, ending after the answer was verified'
	@echo 'make test          all tests'
	@echo 'make setup         only install, into .venv'

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml setup.sh
	@./setup.sh

demo: setup
	@.venv/bin/fbt demo $(if $(CHECK),--check)

# Three processes keep two cores busy, for tests of servers and pages wait half of their time. Those
# that need no server give way to them.
test: setup
	@$(MAKE) --no-print-directory --jobs 3 --keep-going test-service test-runs test-alone

WHOLE_RUNS := $(addprefix tests/service/,test_bench_online.py test_bench_serving.py test_images.py)

test-service:
	@.venv/bin/pytest tests/service $(WHOLE_RUNS:%=--ignore=%)

test-runs:
	@.venv/bin/pytest tests/pipeline $(WHOLE_RUNS) tests/browser tests/cluster

test-alone:
	@nice -n 2 .venv/bin/pytest tests/unit tests/manifests
