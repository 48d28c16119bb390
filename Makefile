# Floodgate on one machine. `make help` lists what there is; deploy/local/stack.py does the work.
#
# DB=mysql takes Oracle MySQL instead of MariaDB. INSTANCE names another stack with ports and data of its own.
# WORKER=stock starts gunicorn with its own gevent worker instead of the lean one.

PYTHON ?= python3
DB ?= mariadb
SUFFIX := $(if $(filter mysql,$(DB)),-mysql)
INSTANCE ?= $(or $(FLOODGATE_INSTANCE),local$(SUFFIX))
TEST_INSTANCE ?= test$(SUFFIX)

ifdef WORKER
export FLOODGATE_WORKER := $(WORKER)
endif

STACK = @$(PYTHON) deploy/local/stack.py --instance $(INSTANCE)
BIN = .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup run stop restart reset status logs manage test lint format types contracts bench

help:  ## List the targets.
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

setup:  ## Install what is missing: Debian packages, the virtual environment.
	$(STACK) setup

run:  ## Start everything and wait until it is ready (DB=mysql for Oracle MySQL).
	$(STACK) up

stop:  ## Stop everything.
	$(STACK) down

restart: stop run  ## Stop and start.

reset:  ## Stop everything and delete its data.
	$(STACK) reset

status:  ## Show a line for each process.
	$(STACK) status

logs:  ## Show the end of the logs (NAME=gunicorn for one, FOLLOW=1 to go on).
	$(STACK) logs $(if $(FOLLOW),--follow) $(NAME)

manage:  ## Run a management command: make manage CMD="audit --wait 60".
	$(STACK) manage $(if $(CMD),'$(subst ','\'',$(CMD))',help)

test:  ## Run the tests on servers of their own (DB=mysql, ARGS="tests/unit -k ids", KEEP=1 leaves the servers up).
	@$(PYTHON) deploy/local/stack.py --instance $(TEST_INSTANCE) test $(if $(KEEP),--keep) -- $(ARGS)

lint:  ## Check format and style.
	@$(BIN)/ruff format --check --quiet . || { echo "run \`make format\`" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .

format:  ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

types:  ## Check types.
	@$(PYTHON) deploy/local/stack.py --instance $(TEST_INSTANCE) exec -- $(BIN)/mypy --no-error-summary .

contracts:  ## Check who imports whom, and that every model change has its migration.
	@told=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$told"; exit 1; }
	@told=$$($(PYTHON) deploy/local/stack.py --instance $(TEST_INSTANCE) exec -- \
		$(BIN)/python manage.py makemigrations --check --dry-run 2>&1) || { echo "$$told"; exit 1; }

bench:  ## Load the running stack: make bench SCENARIO=place (results in bench/results).
	$(STACK) exec -- $(BIN)/python -m bench.run $(SCENARIO) $(ARGS)
