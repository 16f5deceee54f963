#!/bin/sh
# Turn proto/*.proto into Python, the chart's values into their schema and page, and the code into pages: generate.sh [DIRECTORY].
#
# Without a directory, Python goes to src and the rest to its place.
set -eu
cd "$(dirname "$0")/.."
out=${1:-src}
PATH="$PWD/.venv/bin:$PATH"

# proto/ is seen as hyperpod_ebs/pb/, so that the generated imports are absolute;
# the names on the wire come from the `package` line alone.
for proto in proto/*.proto; do
    python -m grpc_tools.protoc --proto_path=hyperpod_ebs/pb=proto \
        --python_out="$out" --grpc_python_out="$out" \
        --mypy_out=quiet,readable_stubs:"$out" --mypy_grpc_out=quiet,only_async:"$out" \
        "hyperpod_ebs/pb/$(basename "$proto")"
done

python scripts/chart/documents.py --into="${1:-.}"
PYTHONPATH=. python scripts/docs/pages.py --into="${1:-.}"
