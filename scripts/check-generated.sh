#!/bin/sh
# Fail when what is committed is not what `make generate` makes of proto/ and of the chart's values.
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
for file in charts/hyperpod-ebs/values.schema.json docs/reference/chart-values.md; do
    diff --brief "$fresh/$file" "$file" || {
        echo "$file differs from charts/hyperpod-ebs/values.yaml: run make generate" >&2
        exit 1
    }
done
diff --brief "$fresh/INVARIANTS.md" INVARIANTS.md || {
    echo "INVARIANTS.md differs from tests/support/requirements.py and the tests' claims: run make generate" >&2
    exit 1
}
