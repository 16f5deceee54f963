#!/bin/sh
# Format the Python code and sort its imports, as `make check` wants them.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python
.venv/bin/ruff check --quiet --select I --fix
.venv/bin/ruff format
