#!/bin/sh
# Fail when src/hyperpod_ebs/pb is not what `make generate` makes of proto/.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/generate.sh "$fresh"
touch "$fresh/hyperpod_ebs/pb/__init__.py"
diff --recursive --brief --exclude=__pycache__ "$fresh/hyperpod_ebs/pb" src/hyperpod_ebs/pb || {
    echo "src/hyperpod_ebs/pb differs from proto/: run make generate" >&2
    exit 1
}
