#!/bin/sh
# Run every check that needs no machine of its own; all of them, also after one has failed.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python
PATH="$PWD/.venv/bin:$PATH"

failed=
check() {
    what=$1
    shift
    echo "== $what"
    "$@" || failed="$failed $what,"
}

check lint ruff check
check format ruff format --check
check mypy mypy src tests bench localcluster examples scripts/image scripts/chart scripts/docs hatch_build.py
check basedpyright basedpyright
check layers lint-imports --no-logo
check duplicates pylint src/hyperpod_ebs
check generated scripts/check-generated.sh
check docs scripts/docs.sh

[ -z "$failed" ] || {
    echo "failed:${failed%,}" >&2
    exit 1
}
