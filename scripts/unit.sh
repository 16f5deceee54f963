#!/bin/sh
# Run the tests that need no root and no tool except Python: unit.sh [OPTION...].
# The options are passed to pytest.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 -m "not root" tests/unit tests/examples "$@"
