#!/bin/sh
# Fail if a committed file differs from the one that `make generate` makes.
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
for table in driver/model/attach_limit_table.py emulator/nodes/instance_type_table.py; do
    diff --brief "$fresh/hyperpod_ebs/$table" "src/hyperpod_ebs/$table" || {
        echo "$table differs from scripts/attach_limits: run make generate" >&2
        exit 1
    }
done
for file in charts/hyperpod-ebs/values.schema.json charts/hyperpod-ebs/templates/_defaults.tpl docs/reference/chart-values.md; do
    diff --brief "$fresh/$file" "$file" || {
        echo "$file differs from charts/hyperpod-ebs/values.yaml: run make generate" >&2
        exit 1
    }
done
for page in src/hyperpod_ebs/access/policy/comparison/action_names.txt INVARIANTS.md docs/reference/command-line.md docs/reference/doctor.md docs/reference/errors.md docs/reference/metrics.md; do
    diff --brief "$fresh/$page" "$page" || {
        echo "$page differs from the code that it is generated from: run make generate" >&2
        exit 1
    }
done
