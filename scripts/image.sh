#!/bin/sh
# Build the image: image.sh [--arch=amd64|arm64] [--demo] [--base=IMAGE] [--fresh] [--into=DIRECTORY].
#
#   --arch   for which machines; this one's kind by default, and the other takes no emulator
#   --demo   with the embedded cloud and the demo in it
#   --base   on an image of yours instead of Debian's packages, as buildah names it; it brings what they bring
#   --fresh  with Debian's packages of now: the cache is keyed by their names, and so knows no update
#   --into   where the archive goes; dist by default
#
# Prints the path of the OCI archive, alone on stdout; its list of parts (CycloneDX) lies beside it. No registry is
# needed: Debian's packages come from the mirrors that this machine's apt knows, are unpacked and not installed, and
# buildah puts the directories together. What takes long stays in a cache outside the tree, with a storage of its own
# for buildah; it may be removed at any time.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
PATH="$PATH:/usr/sbin:/sbin"

say() { echo "image: $*" >&2; }

fail() {
    say "$@"
    exit 1
}

[ "$(id -u)" = 0 ] || fail "unpacking what belongs to root takes root: run it as root"
command -v dpkg >/dev/null || fail "this takes a Debian machine: there is no dpkg"
native=$(dpkg --print-architecture)
arch=$native variant= base= fresh= into=dist
for option; do
    case $option in
    --arch=*) arch=${option#*=} ;;
    --demo) variant=-demo ;;
    --base=*) base=${option#*=} ;;
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
# One build at a time: another would take away what is half laid out.
exec 9>"$cache/lock"
flock 9
rm -rf "$cache"/unfinished.*
find "$cache" -maxdepth 1 \( -name 'system-*' -o -name 'packages-*' \) -mtime +30 -exec rm -rf {} +
work=$(mktemp -d "$cache/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT

# When the sources were last changed; the image has no other time in it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
revision=$(git rev-parse HEAD)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)
label=org.opencontainers.image

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
    dir=$cache/system-$1-$(digest image/debian-packages.txt image/left-out.txt image/passwd image/group scripts/image/unpacked.sh)
    [ -z "$fresh" ] || [ -e "$work/fresh-$1" ] || rm -rf "$dir"
    touch "$work/fresh-$1"
    if [ ! -d "$dir" ]; then
        say "Debian's packages for $1"
        sources >"$work/sources"
        [ -s "$work/sources" ] || fail "this machine's apt knows no Debian mirror: apt-get update first"
        # Unpacked, not installed: no script runs, so neither an emulator nor what dpkg wants is needed.
        mmdebstrap --quiet --mode=root --variant=extract --architectures="$1" --format=directory \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include="$(listed image/debian-packages.txt | paste -sd ,)" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            --extract-hook="$root/scripts/image/unpacked.sh"' "$1"' \
            bookworm "$work/system-$1" "$work/sources" >&2
        finish_system "$work/system-$1"
        if [ "$1" = "$native" ]; then compiler=$work/system-$1; else compiler=$(system "$native"); fi
        compile "$compiler" "$work/system-$1" usr/lib/python3.11
        mv "$work/system-$1" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}

# packages: where the virtual environment lies, laid out now or before
packages() {
    dir=$cache/packages-$arch$variant-$(digest requirements/run.txt image/pyvenv.cfg scripts/image.sh)
    if [ ! -d "$dir" ]; then
        say "Python's packages for $arch"
        environment=$work/packages/opt/hyperpod-ebs
        mkdir -p "$environment/bin"
        cp image/pyvenv.cfg "$environment/"
        ln -s /usr/bin/python3.11 "$environment/bin/python"
        site=$environment/lib/python3.11/site-packages
        .venv/bin/uv pip install --quiet --python .venv/bin/python --python-version 3.11 --python-platform "$platform" \
            --only-binary :all: --link-mode copy --require-hashes --target "$site" -r requirements/run.txt >&2
        rm -rf "$site/bin" "$site/.lock"
        cut_models "$site/botocore/data"
        compile "$(system "$native")" "$work/packages" opt/hyperpod-ebs
        mv "$work/packages" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}

# cut_models DIRECTORY: of botocore's data what the driver reads beside its own models (hatch_build.py); for the demo
# whole models too, which the embedded cloud answers by.
cut_models() {
    for service in "$1"/*/; do
        case $(basename "$service") in
        ec2 | sagemaker | sts) [ -n "$variant" ] || find "$service" -name 'service-2*' -delete ;;
        eks) [ -n "$variant" ] || rm -rf "$service" ;;
        *) rm -rf "$service" ;;
        esac
    done
    find "$1" \( -name 'examples-*' -o -name 'paginators-*' -o -name 'waiters-*' \) -delete
}

# driver TREE: lay out what is ours, from a wheel of a copy, so that nothing is written among the sources.
driver() {
    site=$1/opt/hyperpod-ebs/lib/python3.11/site-packages
    mkdir -p "$site" "$1/usr/bin" "$work/copy"
    cp -R src pyproject.toml hatch_build.py README.md LICENSE "$work/copy/"
    rm -rf "$work/copy/src/hyperpod_ebs/aws/models"
    (cd "$work/copy" && "$root/.venv/bin/python" -m hatchling build --target wheel --directory "$work/wheel") >/dev/null
    python3 -m zipfile -e "$work"/wheel/*.whl "$site"
    if [ -z "$variant" ]; then
        rm -rf "$site/hyperpod_ebs/emulator" "$site/hyperpod_ebs/demo"
    fi
    compile "$(system "$native")" "$1" opt/hyperpod-ebs
    cp image/hyperpod-ebs "$1/usr/bin/hyperpod-ebs"
    ln -s hyperpod-ebs "$1/usr/bin/aws-ebs-csi-driver" # /bin is /usr/bin
}

# buildah with a storage of its own, and none of the machine's /var/lib, where it would keep a cache.
buildah_() {
    mkdir -p "$cache/var-lib"
    unshare --mount --propagation private sh -euc '
        mount --bind "$1/var-lib" /var/lib
        storage=$1/storage
        shift
        exec buildah --storage-driver vfs --root "$storage/root" --runroot "$storage/run" "$@"
    ' buildah "$cache" "$@"
}

# assembled FILE TAG TIME OPTION...: an image, and that all its files are of that time
assembled() {
    file=$1 tag=$2 time=$3
    shift 3
    mkdir -p "$work/context"
    buildah_ bud --quiet --isolation chroot --layers="$layers" --identity-label=false --arch "$arch" \
        --timestamp "$time" --file "$file" --tag "$tag" "$@" "$work/context" >&2
}

packages=$(packages)
if [ -n "$base" ]; then
    system=$work/none
    mkdir "$system"
else
    system=$(system "$arch")
fi

# A base has a time of its own, so that a new version shares its layers with the last one.
on=localhost/base:$(digest "$(basename "$system")" "$(basename "$packages")" "$base" image/base.Containerfile)
if [ -n "$fresh$base" ] || ! buildah_ inspect "$on" >/dev/null 2>&1; then
    layers=true assembled image/base.Containerfile "$on" 0 --build-arg "SYSTEM=${base:-scratch}" \
        --build-context "system=$system" --build-context "packages=$packages"
fi

driver "$work/driver"
mkdir -p "$work/driver/usr/share/sbom"
parts=$work/driver/usr/share/sbom/hyperpod-ebs.cdx.json
.venv/bin/python scripts/image/sbom.py --version "$version" --arch "$arch" "$system" "$packages" "$work/driver" >"$parts"
name=localhost/hyperpod-ebs:$version$variant
layers=false assembled Containerfile "$name" "$SOURCE_DATE_EPOCH" --build-arg "BASE=$on" \
    --build-context "driver=$work/driver" --label "$label.version=$version" --label "$label.revision=$revision" \
    --label "$label.created=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)"
buildah_ push --quiet "$name" "oci-archive:$work/archive.tar:$name" >&2
buildah_ rmi "$name" >/dev/null
archive=$into/hyperpod-ebs-$version$variant-$arch
cp "$parts" "$archive.cdx.json"
mv "$work/archive.tar" "$archive.oci.tar"
echo "$archive.oci.tar"
