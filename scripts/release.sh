#!/bin/sh
# Build all files of a release: release.sh [OPTION...].
#
#   --snapshot        build a tree that has changes or no release tag; for trials and tests
#   --no-images       without the images, which need root and a Debian machine
#   --into=DIRECTORY  where the files go; dist by default. Its former content is deleted
#
# The sources are the files that git does not ignore. Two builds of one commit have the same bytes if they use the same
# Python and the same Debian packages. docs/guides/release.md lists the files and says how to publish them.
set -eu
cd "$(dirname "$0")/.."
umask 022

fail() {
    echo "release: $*" >&2
    exit 1
}

snapshot='' images=yes into=dist
for option; do
    case $option in
    --snapshot) snapshot=yes ;;
    --no-images) images='' ;;
    --into=*) into=${option#*=} ;;
    *) fail "unknown option $option" ;;
    esac
done
[ "$into" = dist ] || [ ! -e "$into" ] || [ -e "$into/SHA256SUMS" ] || [ -z "$(ls -A "$into")" ] ||
    fail "$into has files that do not belong to a release: name an empty directory"
[ -z "$images" ] || [ "$(id -u)" = 0 ] || fail "cannot build images without root: run it as root, or with --no-images"

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)
tag=v$version

# reasons_against: each reason why this tree is not release $version, one a line
reasons_against() {
    [ -z "$(git status --porcelain)" ] || echo "the tree has changes: commit or stash them"
    git tag --points-at HEAD | grep -qxF "$tag" ||
        echo "the commit $(git rev-parse --short HEAD) has no tag $tag: make it with git tag --annotate $tag"
    scripts/release/notes.sh "$version" >/dev/null ||
        echo "CHANGELOG.md has no section ## $version: insert this heading below Unreleased"
    if grep -q '^[^#]*hyperpod-ebs\.example' charts/hyperpod-ebs/Chart.yaml; then
        echo "charts/hyperpod-ebs/Chart.yaml has placeholder addresses: set home, sources, icon and maintainers"
    fi
    if grep -q '^  image-registry: ""' charts/hyperpod-ebs/Chart.yaml; then
        echo "charts/hyperpod-ebs/Chart.yaml names no registry: set the annotation image-registry"
    fi
}

if [ -z "$snapshot" ]; then
    reasons=$(reasons_against)
    [ -z "$reasons" ] || fail "this tree is not a release of $version:
$(echo "$reasons" | sed 's/^/  - /')
To try the build anyway: make release ARGS=--snapshot"
fi

scripts/setup.sh python go-tools
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

scripts/release/packages.sh . "$work/files"
if [ -n "$snapshot" ]; then
    {
        echo "Not a release: built from the commit $(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo ", with changes")."
        echo
        scripts/release/notes.sh Unreleased
    } >"$work/files/RELEASE-NOTES.md"
else
    scripts/release/notes.sh "$version" >"$work/files/RELEASE-NOTES.md"
fi
if [ -n "$images" ]; then
    for arch in amd64 arm64; do
        # Cached Debian packages miss later updates, so a release downloads them again.
        if [ -n "$snapshot" ]; then set --; else set -- --fresh; fi
        scripts/image.sh --arch="$arch" --into="$work/files" "$@" >&2
    done
fi
(cd "$work/files" && LC_ALL=C sha256sum -- *) >"$work/SHA256SUMS"
mv "$work/SHA256SUMS" "$work/files/"

mkdir -p "$into"
find "$into" -mindepth 1 -delete
cp "$work"/files/* "$into/"
cat "$into/SHA256SUMS"
