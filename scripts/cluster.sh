#!/bin/sh
# A real Kubernetes with the driver on this machine: cluster.sh up|demo|down [OPTION...], as `python -m localcluster` has them.
set -eu
cd "$(dirname "$0")/.."
word=$1
shift

if [ "$(id -u)" != 0 ]; then
    echo "a cluster cannot make namespaces, mounts and loop devices without root: run it as root" >&2
    exit 1
fi
if [ "$word" = down ]; then
    [ -x .venv/bin/python ] || {
        echo "there is no .venv here, so no cluster was brought up from here: make cluster-down belongs where make cluster was run" >&2
        exit 1
    }
    exec .venv/bin/python -m localcluster down "$@"
fi
scripts/setup.sh machine python go-tools cluster
driver=$(scripts/image.sh)
workload=$(scripts/image.sh --workload)
exec .venv/bin/python -m localcluster "$word" --image="$driver" --image="$workload" "$@"
