#!/bin/sh
# Show a training that loses its node, on a real Kubernetes: on the cluster of `make cluster`, or on one for this alone.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "make demo-kubernetes cannot make namespaces, mounts and loop devices without root: run it as root" >&2
    exit 1
fi
scripts/setup.sh machine python go-tools cluster
driver=$(scripts/image.sh)
workload=$(scripts/image.sh --workload)
exec .venv/bin/python -m localcluster demo --image="$driver" --image="$workload" "$@"
