#!/bin/sh
# Measure the controller on the embedded cloud: bench.sh [OPTION...]. The options are passed to bench/controller.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "bench: cannot attach loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python
exec .venv/bin/python -m bench.controller "$@"
