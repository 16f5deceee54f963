#!/bin/sh
# Bring up a Kubernetes with the driver on this machine, and leave it running: cluster.sh [OPTION...], those of
# `python -m localcluster up`.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "make cluster cannot make namespaces, mounts and loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python go-tools cluster
driver=$(scripts/image.sh)
workload=$(scripts/image.sh --workload)
exec .venv/bin/python -m localcluster up --image="$driver" --image="$workload" "$@"
