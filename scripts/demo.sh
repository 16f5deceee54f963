#!/bin/sh
# Show a volume's whole life: demo.sh [OPTION...], those of `hyperpod-ebs demo`.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "make demo cannot attach or mount loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python
exec .venv/bin/hyperpod-ebs demo "$@"
