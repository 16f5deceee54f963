#!/bin/sh
# Attach a volume to a HyperPod node with the AWS CLI, one permission at a time: examples/by-hand.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "by-hand: cannot attach and mount loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python aws-cli
PATH="$PWD/.venv/bin:$PWD/.tools/aws-cli/bin:$PATH:/usr/sbin:/sbin"
export PATH
exec examples/by-hand/attach.sh
