#!/bin/sh
# Pin pyproject.toml's dependencies, with hashes: lock.sh [OPTION...]. The options, such as --upgrade, are passed to
# `uv pip compile`.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# lock FILE SOURCE...: write the pins to requirements/FILE; an existing pin stays unless the sources no longer allow it
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
lock moto.txt --group moto "$@"
lock go.txt --group go "$@"
lock uv.txt --group uv "$@"

# The build's pins in pyproject.toml follow those of the environment in which the tests run.
for package in botocore hatchling; do
    version=$(sed -n "s/^$package==\([^ ]*\).*/\1/p" requirements/dev.txt)
    sed -i "s/^\( *\"$package==\)[^\"]*\"/\1$version\"/" pyproject.toml
done
