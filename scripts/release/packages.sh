#!/bin/sh
# Build the files of a release that need no root: packages.sh TREE DIRECTORY. TREE is a checkout, into which nothing is
# written; the tools are those of this script's own checkout.
#
# The files are a wheel, a source distribution, the pinned versions that the tests ran with, the chart's package and a chart
# repository's index. The only time in them is SOURCE_DATE_EPOCH, or else the time of the last commit.
set -eu
umask 022
tools=$(cd "$(dirname "$0")/../.." && pwd)
tree=$(cd "$1" && pwd)
mkdir -p "$2"
into=$(cd "$2" && pwd)
: "${SOURCE_DATE_EPOCH:=$(git -C "$tree" log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# quietly COMMAND...: run it; its output is shown only if it fails
quietly() {
    "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
}

# The files that git tracks and new ones that it does not ignore; a file that is deleted but tracked is left out.
mkdir "$work/tree"
(
    cd "$tree"
    # shellcheck disable=SC2016 # the inner shell expands it
    git ls-files -z --cached --others --exclude-standard |
        xargs -0 sh -c 'for path; do if [ -e "$path" ]; then printf "%s\0" "$path"; fi; done' sh |
        xargs -0 cp --parents --target-directory "$work/tree"
)
cd "$work/tree"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)

quietly "$tools/.venv/bin/python" -m hatchling build --directory "$into"
cp requirements/run.txt "$into/hyperpod-ebs-$version-requirements.txt"
quietly "$tools/.tools/bin/helm" package charts/hyperpod-ebs --destination "$into"

# Helm indexes a whole directory, and writes the current time.
mkdir "$work/index"
cp "$into/hyperpod-ebs-$version.tgz" "$work/index/"
quietly "$tools/.tools/bin/helm" repo index "$work/index"
time=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)
sed "s/^\( *created\|generated\): .*/\1: \"$time\"/" "$work/index/index.yaml" >"$into/index.yaml"
