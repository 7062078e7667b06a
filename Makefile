# Two commands do everything on a fresh machine with Python 3.11 or 3.12: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

.PHONY: demo test test-python test-interpreted test-bounds lint bench bench-quick peers clean

demo: $(VENV)/.installed
	$(BIN)/python -m training.run --scheme takd --out $(RUN) --resume
	$(BIN)/python -m sim.eval --model $(RUN)/ckpt.pt --bits 2 --verify

test: $(VENV)/.installed-test test-python test-interpreted test-bounds

test-python: $(VENV)/.installed-test
	$(BIN)/python -m pytest

# The kernels as plain Python, where numpy reports every overflow and coverage sees every line
test-interpreted: $(VENV)/.installed-test
	NUMBA_DISABLE_JIT=1 $(BIN)/python -W error -m coverage run --source sim -m pytest tests/test_simulator.py tests/test_agreement.py
	$(BIN)/python -m coverage report --include 'sim/kernels/co*.py,sim/requantizers/*,sim/machine.py,sim/lowering.py,sim/reference.py' --omit '*_vnni.py' --fail-under 95

# The compiled kernels with every index checked
test-bounds: $(VENV)/.installed-test
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest tests/test_simulator.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

# Kernel throughput over time; asv keeps all it writes under .asv
bench: $(VENV)/.installed-bench
	$(BIN)/asv machine --yes
	$(BIN)/asv run --quick

# Beside other implementations: results/performance.*
peers: $(VENV)/.installed-peers
	$(BIN)/python -m bench.peers --json results/records/performance.json

# A short look at every benchmark's machinery, as CI takes it: nothing is recorded
bench-quick: $(VENV)/.installed-bench
	$(BIN)/asv machine --yes
	$(BIN)/asv run --quick --dry-run --environment existing:$(BIN)/python --bench 'StartUp|Memory|TrainingStep'
	$(BIN)/python -m bench.peers --quick --only conv,network --json build/performance.json

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/.installed-peers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[peers]'
	touch $@

clean:
	rm -rf $(VENV) .asv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
