#!/bin/sh
# Run the property tests that need no root, with many more examples than `make test` gives them: fuzz.sh [OPTION...].
# The options are passed to pytest.
#
# A failure prints the example and the line that repeats it; add the example to the test as an @example.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh machine python
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 -m "hypothesis and not root" \
    --hypothesis-profile fuzz --timeout 1200 tests/unit tests/contract tests/examples \
    tests/system/test_node_blank_copies.py "$@"
