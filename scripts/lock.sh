#!/bin/sh
# Pin pyproject.toml's dependencies, with hashes: lock.sh [OPTION...], those of `uv pip compile` (--upgrade).
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# lock FILE SOURCE...: pins already in FILE stay as long as they fit.
lock() {
    file=requirements/$1
    shift
    uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
        --output-file "$file" "$@"
}

lock run.txt pyproject.toml "$@"
lock dev.txt pyproject.toml --group dev --constraint requirements/run.txt "$@"
lock docs.txt --group docs "$@"
lock aws-cli.txt --group aws-cli "$@"
lock go.txt --group go "$@"
lock uv.txt --group uv "$@"
