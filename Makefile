PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python)

check: lint format types tests

lint:
	$(PYTHON) -m ruff check .

format:
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

tests:
	$(PYTHON) -m pytest

.PHONY: check lint format types tests
