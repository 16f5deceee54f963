#!/bin/sh
# Print the section of CHANGELOG.md about a version, without its heading: notes.sh VERSION. Fails if there is none.
set -eu
cd "$(dirname "$0")/../.."
awk -v version="$1" '
    /^## / { inside = ($2 == version); found = found || inside; next }
    inside && (started || NF) { started = 1; print }
    END { exit !found }
' CHANGELOG.md
