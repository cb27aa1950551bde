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

faults:
	$(PYTHON) -m pytest -n 0 -m faults --full-counts --timeout 1800

bench:
	$(PYTHON) benchmarks/speed.py
	$(PYTHON) benchmarks/ddp.py

schema:
	$(PYTHON) -m utils.config.json_schema

.PHONY: check lint format types tests faults bench schema
