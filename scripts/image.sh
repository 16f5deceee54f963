#!/bin/sh
# Build the image: image.sh [OPTION...].
#
#   --arch=amd64|arm64  for which machines; this one's kind by default, and the other takes no emulator
#   --demo              with the embedded cloud and the demo in it
#   --workload          not the driver's image but the one of examples/workload
#   --base=IMAGE        on an image of yours instead of Debian's packages, as buildah names it; it brings what they bring
#   --fresh             with Debian's packages of now: the cache is keyed by their names, and so knows no update
#   --again             also where the archive of these very sources is in the cache
#   --into=DIRECTORY    where the archive goes; dist by default
#   --layout=DIRECTORY  no image, but all that `docker build` takes to make it, into a directory that is not there yet
#
# Prints the path of what it made, alone on stdout; an OCI archive's list of parts (CycloneDX) lies beside it. No registry is
# needed: Debian's packages come from the mirrors that this machine's apt knows, are unpacked and not installed, and
# buildah puts the directories together. What takes long stays in a cache outside the tree, with a storage of its own
# for buildah; it may be removed at any time.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
umask 022 # what is laid out does not depend on whose shell it is
PATH="$PATH:/usr/sbin:/sbin"

say() { echo "image: $*" >&2; }

fail() {
    say "$@"
    exit 1
}

[ "$(id -u)" = 0 ] || fail "unpacking what belongs to root takes root: run it as root"
command -v dpkg >/dev/null || fail "this takes a Debian machine: there is no dpkg"
native=$(dpkg --print-architecture)
arch=$native what=hyperpod-ebs base= again= fresh= into=dist layout=
for option; do
    case $option in
    --arch=*) arch=${option#*=} ;;
    --demo) what=hyperpod-ebs-demo ;;
    --workload) what=hyperpod-ebs-workload ;;
    --base=*) base=${option#*=} ;;
    --fresh) fresh=yes again=yes ;;
    --again) again=yes ;;
    --into=*) into=${option#*=} ;;
    --layout=*) layout=${option#*=} ;;
    *) fail "no option is called $option" ;;
    esac
done
case $arch in
amd64) platform=x86_64-manylinux_2_28 ;;
arm64) platform=aarch64-manylinux_2_28 ;;
*) fail "--arch is amd64 or arm64, not $arch" ;;
esac
if [ -n "$layout" ]; then
    [ ! -e "$layout" ] || fail "$layout is there already: name a directory that is not"
    [ "$what" != hyperpod-ebs-workload ] || fail "examples/workload is laid out for a build as it is: --layout is for the driver"
    [ -z "$base" ] || fail "what stands on a base is said to the build, not to the layout: see docs/guides/image.md"
fi

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
find "$cache" -maxdepth 1 \( -name 'debian-*' -o -name 'python-*' -o -name 'driver-*' -o -name 'built-*' \) -mtime +7 -exec rm -rf {} +
work=$(mktemp -d "$cache/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT

# When the sources were last changed; the image has no other time in it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
of_driver="LICENSE README.md hatch_build.py pyproject.toml requirements scripts/image scripts/image.sh src"
case $what in
*-workload) sources="examples/workload image scripts/image scripts/image.sh" ;;
*) sources="Containerfile image $of_driver" ;;
esac
revision=$(git rev-parse HEAD)
# shellcheck disable=SC2086 # words
[ -z "$(git status --porcelain -- $sources)" ] || revision=$revision-dirty
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)

# digest WORD...: of the words, and of the files among them
digest() { for word; do if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi; done | sha256sum | cut -c 1-16; }

# listed FILE: its lines, without what is said about them
listed() { sed 's/[[:space:]]*#.*//; /^$/d' "$1"; }

# apart SCRIPT ARGUMENT...: run a script with mounts of its own, where whatever others have mounted from loop devices is
# not mounted: a copy of such a mount keeps the device busy for as long as it is there.
apart() {
    script=$1
    shift
    unshare --mount --propagation private sh -euc '
        awk "\$3 ~ /^7:/ { print \$5 }" /proc/self/mountinfo | while read -r point; do umount --lazy "$point" || true; done 2>/dev/null
        '"$script" "$@"
}

# compile DEBIAN TREE DIRECTORY: byte code for a directory of TREE, by the Python of DEBIAN. It is never compared
# with its source, whose time changes when the image is put together.
compile() {
    apart '
        mount --bind "$2" "$1/mnt"
        exec chroot "$1" /usr/bin/python3.11 -m compileall -q -s /mnt -p / --invalidation-mode unchecked-hash "/mnt/$3"
    ' compile "$@"
}

. scripts/image/debian.sh

# python: where Python's part lies, laid out now or before
python() {
    dir=$cache/python-$arch-$what-$(digest requirements/run.txt image/pyvenv.cfg scripts/image/python.sh scripts/image/records.py)
    if [ ! -d "$dir" ]; then
        say "Python's packages for $arch"
        scripts/image/python.sh "$what" "$platform" "$work/python"
        compile "$(debian "$native")" "$work/python" opt/hyperpod-ebs
        mv "$work/python" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}

# sources_digest WORD PATH...: of the word and of all sources below the paths
sources_digest() {
    {
        echo "$1"
        shift
        find "$@" \( -name __pycache__ -o -path src/hyperpod_ebs/driver/aws/models \) -prune -o -type f -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-16
}

# driver: where what is ours lies, laid out now or before from a wheel of a copy, so that nothing is written among the
# sources. It is the same for all machines.
driver() {
    # shellcheck disable=SC2086 # words
    dir=$cache/driver-$what.$(sources_digest "" image/hyperpod-ebs $of_driver)
    if [ -n "$again" ] || [ ! -d "$dir" ]; then
        rm -rf "$cache/driver-$what".*
        site=$work/driver/opt/hyperpod-ebs/lib/python3.11/site-packages
        mkdir -p "$site" "$work/driver/usr/bin" "$work/copy"
        cp -R src pyproject.toml hatch_build.py README.md LICENSE "$work/copy/"
        rm -rf "$work/copy/src/hyperpod_ebs/driver/aws/models"
        (cd "$work/copy" && "$root/.venv/bin/python" -m hatchling build --target wheel --directory "$work/wheel") >/dev/null
        python3 -m zipfile -e "$work"/wheel/*.whl "$site"
        [ "$what" = hyperpod-ebs-demo ] || rm -rf "$site/hyperpod_ebs/emulator" "$site/hyperpod_ebs/demo" "$site/hyperpod_ebs/sandbox"
        python3 scripts/image/records.py "$site"
        compile "$(debian "$native")" "$work/driver" opt/hyperpod-ebs
        cp image/hyperpod-ebs "$work/driver/usr/bin/hyperpod-ebs"
        ln -s hyperpod-ebs "$work/driver/usr/bin/aws-ebs-csi-driver" # /bin is /usr/bin
        mv "$work/driver" "$dir"
    fi
    echo "$dir"
}

# buildah with a storage of its own, and none of the machine's /var/lib, where it would keep a cache.
buildah_() {
    mkdir -p "$cache/var-lib"
    apart '
        mount --bind "$1/var-lib" /var/lib
        storage=$1/storage
        shift
        exec buildah --storage-driver vfs --root "$storage/root" --runroot "$storage/run" "$@"
    ' buildah "$cache" "$@"
}

# assembled FILE CONTEXT TAG TIME OPTION...: an image, and that all its files are of that time
assembled() {
    file=$1 context=$2 tag=$3 time=$4
    shift 4
    buildah_ bud --quiet --isolation chroot --identity-label=false --arch "$arch" --timestamp "$time" \
        --file "$file" --tag "$tag" "$@" "$context" >&2
}

# stood_on STAGE DIRECTORY...: the name of a base's image, built now or before. It has a time of its own, so that a new
# version of what stands on it shares its layers with the last one.
stood_on() {
    stage=$1
    shift
    kind=localhost/$stage-$what-$arch${base:+-own}
    stands=$kind:$(digest "$arch" "$base" image/base.Containerfile $(basename --multiple "$@"))
    if [ -n "$fresh$base" ] || ! buildah_ inspect "$stands" >/dev/null 2>&1; then
        parts_of_base "$work/base" "$@"
        assembled image/base.Containerfile "$work/base" "$stands" 0 --layers --target "$stage" --build-arg "SYSTEM=${base:-scratch}"
        buildah_ images --format '{{.Name}}:{{.Tag}}' | grep "^$kind:" | grep -vxF "$stands" | while read -r former; do
            buildah_ rmi "$former" >/dev/null
        done
    fi
    echo "$stands"
}

# parts_of_base CONTEXT DEBIAN [PYTHON]: what image/base.Containerfile copies, as it names it; the files are the cache's own
parts_of_base() {
    mkdir "$1"
    cp -al "$2" "$1/debian"
    if [ -n "${3:-}" ]; then cp -al "$3" "$1/python"; fi
}

# lay_out_driver: what is ours, as Containerfile copies it, and the list of the parts in $parts
lay_out_driver() {
    if [ -n "$base" ]; then debian=$work/none; else debian=$(debian "$arch"); fi
    python=$(python)
    driver=$(driver)
    cp -al "$driver" "$work/context/driver"
    mkdir -p "$work/context/driver/usr/share/sbom"
    .venv/bin/python scripts/image/sbom.py --name "$what" --version "$version" --arch "$arch" \
        "$debian" "$python" "$work/context/driver" >"$parts"
    cp "$parts" "$work/context/driver/usr/share/sbom/hyperpod-ebs.cdx.json"
}

# build_driver, build_workload: leave the image as an archive in $work/built, and the list of its parts beside it
build_driver() {
    lay_out_driver
    on=$(stood_on runtime "$debian" "$python")
    ours Containerfile "$work/context" "$on" "localhost/hyperpod-ebs:$version${what#hyperpod-ebs}"
}

build_workload() {
    if [ -n "$base" ]; then debian=$work/none; else debian=$(debian "$arch"); fi
    cp examples/workload/*.py "$work/context/"
    .venv/bin/python scripts/image/sbom.py --name "$what" --version "$version" --arch "$arch" "$debian" >"$parts"
    on=$(stood_on system "$debian")
    ours examples/workload/Containerfile "$work/context" "$on" "localhost/$what:latest" # as the examples name it
}

# ours FILE CONTEXT BASE NAME: the last layer, and with it the archive
ours() {
    label=org.opencontainers.image
    # Straight into the archive, and in one commit: each into the storage would be a copy of everything.
    assembled "$1" "$2" "oci-archive:$work/built/image.oci.tar:$4" "$SOURCE_DATE_EPOCH" --layers=false --disable-compression=false \
        --build-arg "BASE=$3" --label "$label.version=$version" --label "$label.revision=$revision" \
        --label "$label.created=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)"
    # buildah gives the archive's own members the time of the build.
    mkdir "$work/archive"
    tar --extract --file "$work/built/image.oci.tar" --directory "$work/archive"
    tar --create --file "$work/built/image.oci.tar" --directory "$work/archive" --sort=name --format=ustar \
        --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner blobs index.json oci-layout
}

mkdir "$work/none" "$work/context" "$work/built"
parts=$work/built/parts.cdx.json
if [ -n "$layout" ]; then
    lay_out_driver
    parts_of_base "$work/base" "$debian" "$python"
    mkdir -p "$layout"
    cp -a Containerfile image/base.Containerfile "$work"/base/* "$work"/context/* "$layout/"
    echo "$layout"
    exit
fi
# shellcheck disable=SC2086 # words
built=$cache/built-$what-$arch-$(sources_digest "$revision $SOURCE_DATE_EPOCH" $sources)
if [ -n "$again$base" ] || [ ! -d "$built" ]; then
    case $what in
    *-workload) build_workload ;;
    *) build_driver ;;
    esac
    if [ -n "$base" ]; then # whose contents nobody here knows
        built=$work/built
    else
        rm -rf "$cache/built-$what-$arch"-*
        mv "$work/built" "$built"
    fi
fi
touch "$built"
archive=$into/$what-$version-$arch
cp "$built"/* "$work/"
mv "$work/parts.cdx.json" "$archive.cdx.json"
mv "$work/image.oci.tar" "$archive.oci.tar"
echo "$archive.oci.tar"
