#!/bin/sh
# Pin pyproject.toml's dependencies, with hashes: lock.sh [OPTION...], the options are those of `uv pip compile`, such as
# --upgrade.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# lock FILE SOURCE...: a pin that FILE has already stays, unless it no longer fits
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

# The build's pins in pyproject.toml follow those of the environment in which the tests run.
for package in botocore hatchling; do
    version=$(sed -n "s/^$package==\([^ ]*\).*/\1/p" requirements/dev.txt)
    sed -i "s/^\( *\"$package==\)[^\"]*\"/\1$version\"/" pyproject.toml
done
