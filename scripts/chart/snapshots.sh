#!/bin/sh
# Render the chart for each file of tests/chart/values: snapshots.sh [DIRECTORY], tests/chart/snapshots by default.
#
# A commit that changes the chart also changes the snapshots; reviewers read their diff.
set -eu
cd "$(dirname "$0")/../.."
into=${1:-tests/chart/snapshots}
[ -x .tools/bin/helm ] || scripts/setup.sh go-tools

mkdir -p "$into"
for values in tests/chart/values/*.yaml; do
    .tools/bin/helm template ebs charts/hyperpod-ebs --namespace kube-system --kube-version 1.36.3 \
        --api-versions snapshot.storage.k8s.io/v1 --values "$values" >"$into/$(basename "$values")"
done
