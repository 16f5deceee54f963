#!/bin/sh
# Start or stop a Kubernetes with the driver on this machine, or run the demo on it:
# cluster.sh up|demo|down [OPTION...]. The options are passed to localcluster.
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
        echo "cluster: cannot stop a cluster: $PWD has no .venv, so no cluster was started here; run make cluster-down in the directory where you ran make cluster" >&2
        exit 1
    }
    exec .venv/bin/python -m localcluster down "$@"
fi
scripts/setup.sh machine python go-tools cluster
driver=$(scripts/image.sh)
workload=$(scripts/image.sh --workload)
exec .venv/bin/python -m localcluster "$action" --image="$driver" --image="$workload" "$@"
