# Short names for the commands that the project is worked on with. `make fuzz SECONDS=3600` runs for an hour.

PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python)
SECONDS ?= 600
JOBS ?= $(shell nproc)

.PHONY: test lint fuzz outsiders canaries ci

test:
	bin/test -q

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# Simulations from new seeds, each printed with the command that repeats it if it finds something;
# seeds per hour in the end.
fuzz:
	$(PYTHON) -m fuzz.ci --no-canaries --seconds $(SECONDS) --jobs $(JOBS)

# Bytes of strangers, made wrong, for every parser that takes them.
outsiders:
	$(PYTHON) -m fuzz.outsiders --seconds $(SECONDS)

# Every planted bug has to be found.
canaries:
	$(PYTHON) -m fuzz.canaries

# All that has to hold for a change to land.
ci:
	.ci/run
