# On a fresh machine with Python 3.11 to 3.14: make demo, make test.  What the tests leave out for brevity: make test-all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

JOBS ?= 2
# Of the examples of every property in test-all, which CI runs: a tenth ends in half an hour; all: make test-all EXAMPLES=1
EXAMPLES ?= 0.1

.PHONY: demo test test-all test-python test-threads test-interpreted test-bounds lint bench bench-quick peers clean

demo: $(VENV)/.installed
	$(BIN)/python -m training.run --scheme takd --out $(RUN) --resume
	$(BIN)/python -m sim.eval --model $(RUN)/ckpt.pt --bits 2 --verify

# What people wait for: few examples of each property, one processor for each half of the tests, as most of the time is
# compiling: kernels without threads take half of it, less optimized ones four fifths of that. Bit planes, whose kernels take longest,
# have tests of their own. test-all tests what users run: optimized kernels, whichever way is faster
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 NUMBA_OPT=1 BITTRUE_METHOD=bytes BITTRUE_EXAMPLES=0.1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not exhaustive'

# Everything: every test on every instruction set, and the kernels in threads, interpreted and with checked indices
test-all: $(VENV)/.installed-test test-python test-threads test-interpreted test-bounds

# Kernels without threads compile in half the time; what threads could change is tested with them below, and by test-bounds. So is
# whichever way is faster: here few bits are bytes, as other ways compile longest, but in the tests of these ways
test-python: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 BITTRUE_METHOD=bytes BITTRUE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-threads: $(VENV)/.installed-test
	OMP_WAIT_POLICY=passive BITTRUE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/test_agreement.py tests/test_core_threads.py \
		tests/test_files.py

# The kernels as plain Python, where numpy reports every overflow and coverage sees every line
test-interpreted: $(VENV)/.installed-test
	NUMBA_DISABLE_JIT=1 $(BIN)/python -W error -m coverage run --source sim -m pytest tests/test_simulator.py tests/test_agreement.py tests/test_requantizers.py \
		tests/test_ops_foreign.py
	$(BIN)/python -m coverage report --include 'sim/kernels/co*.py,sim/requantizers/*,sim/machine.py,sim/lowering.py,sim/reference.py' --omit '*_vnni.py,sim/requantizers/__init__.py' --fail-under 95

# The compiled kernels with every index checked
test-bounds: $(VENV)/.installed-test
	NUMBA_BOUNDSCHECK=1 BITTRUE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/test_simulator.py

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
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 15) else "Python 3.11 to 3.14 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,import,text]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/.installed-peers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[peers]'
	touch $@

clean:
	rm -rf $(VENV) .asv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
