#!/bin/sh
# Build the documentation into dist/docs. A broken link, or a page that loads a file from the network, fails the build.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh python docs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

.venv/bin/python scripts/docs/site.py "$work"
.tools/docs/bin/zensical build --strict --config-file "$work/zensical.toml"
if grep -rnE '<(script|img|iframe)[^>]* src="?https?:|<link[^>]* rel="?(stylesheet|preload|preconnect)[^>]* href="?https?:' "$work/site"; then
    echo "docs: these pages load something from the network" >&2
    exit 1
fi
mkdir -p dist
rm -rf dist/docs
mv "$work/site" dist/docs
echo "dist/docs/index.html"
