#!/bin/sh
# Generate Python from proto/, the tables of attach limits, the chart's schema and page from its values, and pages from the
# code: generate.sh [DIRECTORY].
#
# Without a directory, the files replace the committed ones.
set -eu
cd "$(dirname "$0")/.."
out=${1:-src}
PATH="$PWD/.venv/bin:$PATH"

# protoc sees proto/ as hyperpod_ebs/pb/, so that the generated imports are absolute. This path does not change the names
# on the wire, which come from the `package` line.
for proto in proto/*.proto; do
    python -m grpc_tools.protoc --proto_path=hyperpod_ebs/pb=proto \
        --python_out="$out" --grpc_python_out="$out" \
        --mypy_out=quiet,readable_stubs:"$out" --mypy_grpc_out=quiet,only_async:"$out" \
        "hyperpod_ebs/pb/$(basename "$proto")"
done

python scripts/attach_limits/tables.py --into="$out"
python scripts/chart/documents.py --into="${1:-.}"
PYTHONPATH=. python scripts/docs/pages.py --into="${1:-.}"
