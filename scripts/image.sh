#!/bin/sh
# Build the image: image.sh [--arch=amd64|arm64] [--demo] [--fresh] [--into=DIRECTORY].
#
#   --arch   for which machines; that of this machine by default, and no emulator is needed for the other
#   --demo   with the embedded cloud and the demo in it
#   --fresh  fetch Debian's packages anew: the cache is keyed by their names, and so knows no update
#   --into   where the archive goes; dist by default
#
# Prints the archive's path as its last line. No registry is needed: Debian's packages come from the mirrors
# that this machine's apt knows, are unpacked and not installed, and buildah puts the directories together.
# What takes long is kept in a cache outside the tree, with a storage of its own for buildah.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
PATH="$PATH:/usr/sbin:/sbin"

say() { echo "image: $*" >&2; }

fail() {
    echo "image: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "unpacking what belongs to root takes root: run it as root"
native=$(dpkg --print-architecture)
arch=$native demo= fresh= into=dist
for option; do
    case $option in
    --arch=*) arch=${option#*=} ;;
    --demo) demo=-demo ;;
    --fresh) fresh=yes ;;
    --into=*) into=${option#*=} ;;
    *) fail "no option is called $option" ;;
    esac
done
case $arch in
amd64) platform=x86_64-manylinux_2_28 ;;
arm64) platform=aarch64-manylinux_2_28 ;;
*) fail "--arch is amd64 or arm64, not $arch" ;;
esac

scripts/setup.sh python image >&2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperpod-ebs/image
case $cache in
/var/lib/*) fail "the cache cannot be in /var/lib, which buildah does not get to see: set XDG_CACHE_HOME" ;;
esac
mkdir -p "$cache" "$into"
# One build at a time: another would look into what is half laid out.
exec 9>"$cache/lock"
flock 9
rm -rf "$cache"/unfinished.*
work=$(mktemp -d "$cache/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT

# When the sources were last changed; the image has no other time in it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
revision=$(git rev-parse HEAD)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)

# digest WORD...: of the words, and of the files among them
digest() { for word; do if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi; done | sha256sum | cut -c 1-16; }

# listed FILE: its lines, without what is said about them
listed() { sed 's/[[:space:]]*#.*//; /^$/d' "$1"; }

# Debian's mirrors, from this machine's own apt.
sources() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | sort -u |
        while read -r label mirror; do
            case $label in
            Debian) printf 'deb %s %s main\n' "$mirror" bookworm "$mirror" bookworm-updates ;;
            Debian-Security) echo "deb $mirror bookworm-security main" ;;
            esac
        done | sort -u
}

# compile SYSTEM TREE DIRECTORY: byte code for a directory of TREE, by the Python of SYSTEM. It is never compared
# with its source, whose time changes when the image is put together.
compile() {
    unshare --mount --propagation private sh -euc '
        mount --bind "$2" "$1/mnt"
        exec chroot "$1" /usr/bin/python3.11 -m compileall -q -s /mnt -p / --invalidation-mode unchecked-hash "/mnt/$3"
    ' compile "$@"
}

# finish_system TREE: leave out what nothing uses, and add what Debian's scripts would have.
finish_system() {
    listed image/left-out.txt | grep '^/' | while read -r pattern; do
        # A pattern is meant to become many.
        # shellcheck disable=SC2086
        rm -rf "$1"$pattern
    done
    find "$1" -xdev -path '*/usr/share/doc/*' -type d -empty -delete
    rm -rf "$1/dev" "$1/etc/resolv.conf" "$1/etc/hostname" "$1/run" "$1/tmp"
    mkdir -p "$1/dev" "$1/run" "$1/mnt" "$1/var/lib/dpkg"
    mkdir -m 1777 "$1/tmp"
    mv "$1/.status.d" "$1/var/lib/dpkg/status.d"
    cp image/passwd image/group "$1/etc/"
    ln -s python3.11 "$1/usr/bin/python3"
    ln -s dash "$1/usr/bin/sh" 2>/dev/null || true
}

# system ARCHITECTURE: where Debian's part lies, laid out now or before
system() {
    dir=$cache/system-$1-$(digest image/debian-packages.txt image/left-out.txt image/passwd image/group scripts/image/*)
    [ -z "$fresh" ] || [ "$1" != "$arch" ] || rm -rf "$dir"
    if [ ! -d "$dir" ]; then
        say "Debian's packages for $1"
        sources >"$work/sources"
        [ -s "$work/sources" ] || fail "this machine's apt knows no Debian mirror: apt-get update first"
        # Unpacked, not installed: no script runs, so neither an emulator nor what dpkg wants is needed.
        SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --mode=root --variant=extract --architectures="$1" --format=directory \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include="$(listed image/debian-packages.txt | paste -sd ,)" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            --extract-hook="$root/scripts/image/unpacked.sh"' "$1"' \
            bookworm "$work/system" "$work/sources" >&2
        finish_system "$work/system"
        if [ "$1" = "$native" ]; then compiler=$work/system; else compiler=$(system "$native"); fi
        compile "$compiler" "$work/system" usr/lib/python3.11
        mv "$work/system" "$dir"
    fi
    echo "$dir"
}

# packages: where the virtual environment lies, laid out now or before
packages() {
    dir=$cache/packages-$arch$demo-$(digest requirements/run.txt image/pyvenv.cfg scripts/image/*)
    if [ ! -d "$dir" ]; then
        say "Python's packages for $arch"
        tree=$work/packages/opt/hyperpod-ebs
        mkdir -p "$tree/bin"
        cp image/pyvenv.cfg "$tree/"
        ln -s /usr/bin/python3.11 "$tree/bin/python"
        site=$tree/lib/python3.11/site-packages
        .venv/bin/uv pip install --quiet --python .venv/bin/python --python-version 3.11 --python-platform "$platform" \
            --only-binary :all: --link-mode copy --require-hashes --target "$site" -r requirements/run.txt >&2
        rm -rf "$site/bin" "$site"/.lock
        cut_models "$site/botocore/data"
        compile "$(system "$native")" "$work/packages" opt/hyperpod-ebs
        mv "$work/packages" "$dir"
    fi
    echo "$dir"
}

# cut_models DIRECTORY: of botocore's data only what the driver reads beside its own models (hatch_build.py)
cut_models() {
    for service in "$1"/*/; do
        case $(basename "$service") in
        ec2 | sagemaker | sts) [ -n "$demo" ] || find "$service" -name 'service-2*' -delete ;;
        eks) [ -n "$demo" ] || rm -rf "$service" ;;
        *) rm -rf "$service" ;;
        esac
    done
    find "$1" \( -name 'examples-*' -o -name 'paginators-*' -o -name 'waiters-*' \) -delete
}

# driver: lay out what is ours, from a wheel of these sources
driver() {
    mkdir "$work/sources.d" "$work/driver" "$work/wheel"
    cp -R src proto pyproject.toml hatch_build.py README.md LICENSE "$work/sources.d/"
    find "$work/sources.d" -name __pycache__ -prune -exec rm -rf {} +
    rm -rf "$work/sources.d/src/hyperpod_ebs/aws/models"
    (cd "$work/sources.d" && "$root/.venv/bin/python" -m hatchling build --target wheel --directory "$work/wheel") >&2
    site=$work/driver/opt/hyperpod-ebs/lib/python3.11/site-packages
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --link-mode copy --target "$site" "$work"/wheel/*.whl >&2
    rm -rf "$site/bin" "$site"/.lock "$site"/*.dist-info/direct_url.json "$site"/*.dist-info/uv_cache.json
    [ -n "$demo" ] || rm -rf "$site/hyperpod_ebs/emulator" "$site/hyperpod_ebs/demo"
    compile "$(system "$native")" "$work/driver" opt/hyperpod-ebs
    mkdir -p "$work/driver/usr/bin"
    cp image/hyperpod-ebs "$work/driver/usr/bin/hyperpod-ebs"
    ln -s hyperpod-ebs "$work/driver/usr/bin/aws-ebs-csi-driver" # /bin is /usr/bin
}

# buildah with a storage of its own, and nothing of the machine's /var/lib: as root it keeps a cache there.
buildah_() {
    mkdir -p "$cache/var-lib"
    unshare --mount --propagation private sh -euc '
        mount --bind "$1/var-lib" /var/lib
        storage=$1/storage
        shift
        exec buildah --storage-driver vfs --root "$storage/root" --runroot "$storage/run" "$@"
    ' buildah "$cache" "$@"
}

# assembled TAG OPTION...: build with the directories
assembled() {
    tag=$1
    shift
    buildah_ bud --quiet --isolation chroot --layers --identity-label=false --arch "$arch" --build-context "system=$system" \
        --build-context "packages=$packages/opt/hyperpod-ebs" --build-context "driver=$work/driver" \
        --file Containerfile --tag "$tag" "$@" "$work/empty" >&2
}

system=$(system "$arch")
packages=$(packages)
driver
mkdir "$work/empty"
name=localhost/hyperpod-ebs:$version$demo
# What changes rarely has a time of its own, so that a new version shares its layers with the last.
assembled "localhost/runtime:$(digest "$system" "$packages")" --target runtime --timestamp 0
assembled "$name" --timestamp "$SOURCE_DATE_EPOCH" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --build-arg "CREATED=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)"
archive=$into/hyperpod-ebs-$version$demo-$arch.oci.tar
rm -f "$archive"
buildah_ push --quiet "$name" "oci-archive:$work/archive.tar:$name" >&2
mv "$work/archive.tar" "$archive"
buildah_ rmi "$name" >&2
buildah_ rmi --prune >&2
echo "$archive"
