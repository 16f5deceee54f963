#!/bin/sh
# Run the tests: test.sh [OPTION...]. The options are passed to pytest.
#
# Paths among the options decide what is set up first: `test.sh tests/unit` prepares the Python environment alone, and
# `test.sh tests/chart` adds Helm. Without a path, or with -k or -m alone, any test may be selected, so everything is
# set up. A part that is already set up takes no time (scripts/setup.sh).
set -eu
cd "$(dirname "$0")/.."

# parts PATH: the parts of scripts/setup.sh that the tests under a path need; `images` stands for the driver's and the
# examples' images.
parts() {
    case $1 in
    tests/unit | tests/unit/*) echo python ;;
    tests/examples | tests/examples/test_by_hand.py) echo machine python aws-cli ;;
    tests/examples/*) echo machine python ;;
    tests/contract) echo python aws-cli iam-oracle go-tools sdk-clients ;;
    tests/contract/test_aws_cli.py) echo python aws-cli ;;
    tests/contract/test_go_sdk.py) echo python go-tools ;;
    tests/contract/test_sdk_clients.py) echo python sdk-clients ;;
    tests/contract/test_ec2_reference.py | tests/contract/test_policy_oracle.py) echo python iam-oracle ;;
    tests/contract/*) echo python ;;
    tests/chart | tests/chart/*) echo python go-tools ;;
    tests/system | tests/system/*) echo machine python ;;
    tests/sanity | tests/sanity/* | tests/release | tests/release/*) echo machine python go-tools ;;
    tests/image | tests/image/*) echo machine python image ;;
    *) echo machine python aws-cli iam-oracle go-tools sdk-clients cluster images ;;
    esac
}

# given_paths OPTION...: the paths among pytest's options, one per line, without the names of tests in them
given_paths() {
    before=
    for word; do
        case $before in
        -k | -m | -c | -o | -p | -n | -W | --ignore | --ignore-glob | --deselect) ;; # the word is this option's value
        *)
            path=${word%%::*}
            path=${path#"$PWD/"}
            path=${path#./}
            case $word in
            -*) ;;
            *) if [ -e "$path" ]; then echo "${path%/}"; fi ;;
            esac
            ;;
        esac
        before=$word
    done
}

paths=$(given_paths "$@")
needed=" $(echo "${paths:-tests}" | while read -r path; do parts "$path"; done | tr '\n' ' ') "
is_needed() {
    case $needed in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

# set_up PART...: set up those of the parts that the selected tests need
set_up() {
    for part; do
        shift
        if is_needed "$part"; then set -- "$@" "$part"; fi
    done
    scripts/setup.sh "$@"
}

if [ "$(id -u)" = 0 ]; then
    set_up machine python aws-cli iam-oracle go-tools sdk-clients cluster
    if is_needed images; then
        HYPERPOD_EBS_IMAGES=$(scripts/image.sh)
        workload=$(scripts/image.sh --workload)
        export HYPERPOD_EBS_IMAGES="$HYPERPOD_EBS_IMAGES:$workload"
    fi
else
    if is_needed machine; then
        echo "test: not running as root: tests that attach or mount loop devices are skipped, or fail when CI=true"
    fi
    set_up python aws-cli iam-oracle go-tools sdk-clients
fi
PATH="$PATH:/usr/sbin:/sbin"
export PATH

# run WORKERS OPTION...: run pytest. Its exit code 5 means that this run has none of the selected tests.
failed=0 runs=0 empty=0
run() {
    workers=$1
    shift
    runs=$((runs + 1))
    # One worker runs all tests of an xdist_group; free workers take the other tests. pytest uses the last -m.
    .venv/bin/python -m pytest --numprocesses "$workers" --dist loadgroup -m "not six_minutes and not attack and not fuzz_requests" "$@" || {
        code=$?
        if [ "$code" = 5 ]; then empty=$((empty + 1)); else failed=$code; fi
    }
}

# The tests of the cluster and the runs of csi-sanity leave the processors idle for most of the time: they wait for
# Kubernetes and for EC2's consistency. So they run together, apart from the others, which have deadlines. The others wait
# as well, for the emulator's times and for programs, so they have more workers than there are processors. --ignore has no
# effect on a path that is given to pytest, but --deselect has.
if [ -z "$paths" ]; then
    run 4 --ignore tests/cluster --ignore tests/sanity "$@"
    run 6 "$@" tests/cluster tests/sanity
else
    if echo "$paths" | grep -qv '^tests/cluster'; then
        run 4 --ignore tests/cluster --deselect tests/cluster "$@"
    fi
    if is_needed cluster; then
        run 4 --ignore-glob 'tests/[!c]*' --ignore tests/chart --ignore tests/contract "$@"
    fi
fi
if [ "$empty" = "$runs" ]; then
    echo "test: no test matches: $*" >&2
    failed=5
fi
exit "$failed"
