#!/bin/sh
# Measure which lines and branches tests/unit and tests/contract run, and compare each package with its floor.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python aws-cli
PATH="$PWD/.venv/bin:$PATH:/usr/sbin:/sbin"
export PATH

rm -f .coverage .coverage.*
coverage run -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup -m "not root and not fuzz_requests" tests/unit tests/contract
coverage combine --quiet
coverage json --quiet -o .coverage.json
python scripts/coverage_floors.py .coverage.json
