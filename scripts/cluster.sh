#!/bin/sh
# A Kubernetes with the driver on this machine: cluster.sh up|demo|down [OPTION...], the options are localcluster's.
set -eu
cd "$(dirname "$0")/.."
action=$1
shift

if [ "$(id -u)" != 0 ]; then
    echo "cluster: cannot create namespaces, mounts and loop devices without root: run it as root" >&2
    exit 1
fi
if [ "$action" = down ]; then
    [ -x .venv/bin/python ] || {
        echo "cluster: no cluster was started from this directory, which has no .venv: run make cluster-down where make cluster was run" >&2
        exit 1
    }
    exec .venv/bin/python -m localcluster down "$@"
fi
scripts/setup.sh machine python go-tools cluster
driver=$(scripts/image.sh)
workload=$(scripts/image.sh --workload)
exec .venv/bin/python -m localcluster "$action" --image="$driver" --image="$workload" "$@"
