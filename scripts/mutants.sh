#!/bin/sh
# Run the unit and contract tests on a sample of mutants of the modules that decide: mutants.sh [OPTION...].
# The options are those of scripts/mutants/run.py: --seed N and --count N choose another sample.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python
exec nice .venv/bin/python scripts/mutants/run.py "$@"
