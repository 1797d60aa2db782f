# Set-up and the two commands. Everything else is a plain tool: `.venv/bin/fbt --help`, pytest, ruff.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-alone test-servers

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

# Tests that share servers run one after the other, beside those that need none.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-alone test-servers

test-alone:
	@.venv/bin/pytest tests/unit tests/manifests

test-servers:
	@.venv/bin/pytest tests/service tests/pipeline tests/browser tests/cluster
