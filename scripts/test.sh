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
# Tests of one xdist_group stay with one worker; the rest go to whichever is free. Three workers more than there are
# processors: so many wait for the cluster. Of two -m the later counts.
exec .venv/bin/python -m pytest --numprocesses "$(($(nproc) + 3))" --maxprocesses 7 --dist loadgroup -m "not six_minutes" "$@"
