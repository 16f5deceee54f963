#!/bin/sh
# Run the tests: test.sh [OPTION...], those of pytest.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" = 0 ]; then
    scripts/setup.sh machine python aws-cli go-tools cluster
    HYPERPOD_EBS_IMAGES=$(scripts/image.sh)
    HYPERPOD_EBS_IMAGES=$HYPERPOD_EBS_IMAGES:$(scripts/image.sh --workload) # apart, or a failure of the first goes unseen
    export HYPERPOD_EBS_IMAGES
else
    echo "make test cannot attach or mount loop devices without root: the tests that do are skipped, or fail in CI"
    scripts/setup.sh python aws-cli go-tools
fi
PATH="$PATH:/usr/sbin:/sbin"
export PATH

# run WORKERS OPTION...: 5 is pytest's word for that nothing was to be run, as when the options are about the other part
failed=0 nothing=0
run() {
    workers=$1
    shift
    # Tests of one xdist_group stay with one worker; the rest go to whichever is free. Of two -m the later counts.
    .venv/bin/python -m pytest --numprocesses "$workers" --dist loadgroup -m "not six_minutes" "$@" || {
        code=$?
        if [ "$code" = 5 ]; then nothing=$((nothing + 1)); else failed=$code; fi
    }
}

# Apart, since those on the cluster wait for Kubernetes most of their time, and the others have deadlines. A path that is
# given is not ignored, but what is in it can be deselected.
run "$(nproc)" --maxprocesses 4 --ignore tests/cluster --deselect tests/cluster "$@"
run 4 --ignore-glob 'tests/[!c]*' --ignore tests/chart --ignore tests/contract "$@"
if [ "$nothing" = 2 ]; then
    echo "test: no test is like that: $*" >&2
    failed=5
fi
exit "$failed"
