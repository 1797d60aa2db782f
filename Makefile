# Set-up and the two commands. Everything else is a plain tool: `.venv/bin/fbt --help`, pytest, ruff.
.DEFAULT_GOAL := help
.PHONY: help setup demo test

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

test: setup
	@.venv/bin/pytest --numprocesses 2 --dist loadgroup
