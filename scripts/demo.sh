#!/bin/sh
# Show the whole life of a volume: demo.sh [OPTION...]. The options are passed to `hyperpod-ebs demo`.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "demo: cannot attach and mount loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python
exec .venv/bin/hyperpod-ebs demo "$@"
