#!/bin/sh
# Run all checks of the sources, even after one fails, and list those that failed.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python
PATH="$PWD/.venv/bin:$PATH"

failed=''
# check NAME COMMAND...
check() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed $name,"
}

check lint ruff check
check format ruff format --check
check mypy mypy src tests bench localcluster examples scripts/image scripts/attach_limits scripts/chart scripts/docs scripts/mutants hatch_build.py
check basedpyright basedpyright
check layers lint-imports --no-logo
check duplicates pylint src/hyperpod_ebs
check names python scripts/check/names.py
check words python scripts/check/words.py
check generated scripts/check-generated.sh
check docs scripts/docs.sh
if command -v shellcheck >/dev/null || { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
    scripts/setup.sh check
    # shellcheck disable=SC2046 # one argument for each script
    check shell shellcheck $(git ls-files '*.sh') .ci/run
else
    echo "== shell: skipped, because shellcheck is not installed"
fi
if [ -x .tools/bin/actionlint ]; then
    check workflows .tools/bin/actionlint
fi

[ -z "$failed" ] || {
    echo "failed:${failed%,}" >&2
    exit 1
}
