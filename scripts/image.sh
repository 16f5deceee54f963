#!/bin/sh
# Build a container image: image.sh [OPTION...].
#
#   --arch=amd64|arm64  the architecture; this machine's by default. The other one needs no QEMU
#   --demo              include the embedded cloud and the demo
#   --workload          build the image of examples/workload instead of the driver's
#   --base=IMAGE        use this image, as buildah names it, instead of Debian's packages; docs/guides/image.md says what
#                       it must have
#   --fresh             download Debian's packages again: the cached ones miss later updates
#   --again             build again, even if the cache has the archive of these sources
#   --into=DIRECTORY    where the archive goes; dist by default
#   --layout=DIRECTORY  build no image, but write the files that `docker build` needs into a new directory
#
# Prints the path of the archive or directory as its only line on stdout. An OCI archive has its SBOM (CycloneDX) beside
# it. No container registry is needed: Debian's packages come from the mirrors of this machine's apt. They are unpacked,
# not installed, and buildah assembles the image. Slow steps are cached outside the tree, where buildah also has its own
# storage; the cache can be removed at any time.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
umask 022 # file modes in the image do not depend on the builder's shell
PATH="$PATH:/usr/sbin:/sbin"

log() { echo "image: $*" >&2; }

fail() {
    log "$@"
    exit 1
}

[ "$(id -u)" = 0 ] || fail "cannot unpack files that belong to root without root: run it as root"
command -v dpkg >/dev/null || fail "dpkg is missing: images are built on Debian"
native=$(dpkg --print-architecture)
arch=$native what=hyperpod-ebs base='' again='' fresh='' into=dist layout=''
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
    *) fail "unknown option $option" ;;
    esac
done
case $arch in
amd64) platform=x86_64-manylinux_2_28 ;;
arm64) platform=aarch64-manylinux_2_28 ;;
*) fail "--arch is amd64 or arm64, not $arch" ;;
esac
if [ -n "$layout" ]; then
    [ ! -e "$layout" ] || fail "$layout exists: name a directory that does not exist"
    [ "$what" != hyperpod-ebs-workload ] || fail "--layout does not apply to --workload: pass examples/workload to docker build as it is"
    [ -z "$base" ] || fail "--layout takes no --base: pass the base to docker build, see docs/guides/image.md"
fi

scripts/setup.sh python image >&2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hyperpod-ebs/image
case $cache in
/var/lib/*) fail "cannot keep the cache in $cache, because buildah runs with another /var/lib: set XDG_CACHE_HOME to a directory outside /var/lib" ;;
esac
mkdir -p "$cache" "$into"
# One build at a time: the next line deletes the unfinished directories of other builds.
exec 9>"$cache/lock"
flock 9
rm -rf "$cache"/unfinished.*
find "$cache" -maxdepth 1 \( -name 'debian-*' -o -name 'python-*' -o -name 'driver-*' -o -name 'built-*' \) -mtime +7 -exec rm -rf {} +
work=$(mktemp -d "$cache/unfinished.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The time of the last commit is the only time in the image.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
driver_sources="LICENSE README.md hatch_build.py pyproject.toml requirements scripts/image scripts/image.sh src"
case $what in
*-workload) sources="examples/workload image scripts/image scripts/image.sh" ;;
*) sources="Containerfile image $driver_sources" ;;
esac
revision=$(git rev-parse HEAD)
# shellcheck disable=SC2086 # words
[ -z "$(git status --porcelain -- $sources)" ] || revision=$revision-dirty
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperpod_ebs/__init__.py)

# digest WORD...: the digest of the words; a word that is a file's path stands for the file's content
digest() { for word; do if [ -f "$word" ]; then cat "$word"; else echo "$word"; fi; done | sha256sum | cut -c 1-16; }

# entries FILE: the lines of a list, without comments
entries() { sed 's/[[:space:]]*#.*//; /^$/d' "$1"; }

# run_isolated SCRIPT ARGUMENT...: run a shell script in a mount namespace that has no mounts of loop devices. A copy of
# another program's mount in the namespace would keep its loop device busy until the script ends.
run_isolated() {
    script=$1
    shift
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount --propagation private sh -euc '
        awk "\$3 ~ /^7:/ { print \$5 }" /proc/self/mountinfo | while read -r point; do umount --lazy "$point" || true; done 2>/dev/null
        '"$script" "$@"
}

# compile_python DEBIAN TREE DIRECTORY: write the byte code of a directory of TREE, with the Python in DEBIAN. Python
# loads it without a look at its source, whose time changes when the image is assembled.
compile_python() {
    # shellcheck disable=SC2016 # the inner shell expands it
    run_isolated '
        mount --bind "$2" "$1/mnt"
        exec chroot "$1" /usr/bin/python3.11 -m compileall -q -s /mnt -p / --invalidation-mode unchecked-hash "/mnt/$3"
    ' compile "$@"
}

. scripts/image/debian.sh

# python_tree: the directory with Python's packages; made if the cache has none
python_tree() {
    dir=$cache/python-$arch-$what-$(digest requirements/run.txt image/pyvenv.cfg scripts/image/python.sh scripts/image/records.py)
    if [ ! -d "$dir" ]; then
        log "Python's packages for $arch"
        scripts/image/python.sh "$what" "$platform" "$work/python"
        compile_python "$(debian_tree "$native")" "$work/python" opt/hyperpod-ebs
        mv "$work/python" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}

# sources_digest WORD PATH...: the digest of the word and of all source files below the paths
sources_digest() {
    {
        echo "$1"
        shift
        find "$@" \( -name __pycache__ -o -path '*/aws/models' \) -prune -o -type f -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-16
}

# driver_tree: the directory with this project's files, the same for each architecture; made if the cache has none. They
# come from a wheel that is built in a copy of the sources, so that the build writes nothing among the sources.
driver_tree() {
    # shellcheck disable=SC2086 # words
    dir=$cache/driver-$what.$(sources_digest "" image/hyperpod-ebs $driver_sources)
    if [ -n "$again" ] || [ ! -d "$dir" ]; then
        rm -rf "$cache/driver-$what".*
        site=$work/driver/opt/hyperpod-ebs/lib/python3.11/site-packages
        mkdir -p "$site" "$work/driver/usr/bin" "$work/copy"
        cp -R src pyproject.toml hatch_build.py README.md LICENSE "$work/copy/"
        rm -rf "$work"/copy/src/hyperpod_ebs/*/aws/models
        (cd "$work/copy" && "$root/.venv/bin/python" -m hatchling build --target wheel --directory "$work/wheel") >/dev/null
        python3 -m zipfile -e "$work"/wheel/*.whl "$site"
        [ "$what" = hyperpod-ebs-demo ] || rm -rf "$site/hyperpod_ebs/emulator" "$site/hyperpod_ebs/demo" "$site/hyperpod_ebs/sandbox"
        python3 scripts/image/records.py "$site"
        compile_python "$(debian_tree "$native")" "$work/driver" opt/hyperpod-ebs
        cp image/hyperpod-ebs "$work/driver/usr/bin/hyperpod-ebs"
        ln -s hyperpod-ebs "$work/driver/usr/bin/aws-ebs-csi-driver" # /bin is /usr/bin
        cp -p src/hyperpod_ebs/driver/csi/probe.py "$work/driver/usr/bin/hyperpod-ebs-probe"
        mv "$work/driver" "$dir"
    fi
    echo "$dir"
}

# run_buildah OPTION...: run buildah with its storage and its /var/lib in the cache instead of the machine's
run_buildah() {
    mkdir -p "$cache/var-lib"
    # shellcheck disable=SC2016 # the inner shell expands it
    run_isolated '
        mount --bind "$1/var-lib" /var/lib
        storage=$1/storage
        shift
        exec buildah --storage-driver vfs --root "$storage/root" --runroot "$storage/run" "$@"
    ' buildah "$cache" "$@"
}

# build_image FILE CONTEXT TAG TIME OPTION...: build an image from a Containerfile; TIME is the time of all its files
build_image() {
    file=$1 context=$2 tag=$3 time=$4
    shift 4
    run_buildah bud --quiet --isolation chroot --identity-label=false --arch "$arch" --timestamp "$time" \
        --file "$file" --tag "$tag" "$@" "$context" >&2
}

# base_image STAGE DIRECTORY...: the name of the image for a stage of image/base.Containerfile; built if the storage has
# none. The time of its files is 0, not the commit's, so that versions of the driver share its layers.
base_image() {
    stage=$1
    shift
    kind=localhost/$stage-$what-$arch${base:+-own}
    directories=$(basename --multiple "$@")
    # shellcheck disable=SC2086 # words
    name=$kind:$(digest "$arch" "$base" image/base.Containerfile $directories)
    if [ -n "$fresh$base" ] || ! run_buildah inspect "$name" >/dev/null 2>&1; then
        copy_base_context "$work/base" "$@"
        build_image image/base.Containerfile "$work/base" "$name" 0 --layers --target "$stage" --build-arg "SYSTEM=${base:-scratch}"
        run_buildah images --format '{{.Name}}:{{.Tag}}' | grep "^$kind:" | grep -vxF "$name" | while read -r former; do
            run_buildah rmi "$former" >/dev/null
        done
    fi
    echo "$name"
}

# copy_base_context CONTEXT DEBIAN [PYTHON]: link the cache's files to where image/base.Containerfile expects them
copy_base_context() {
    mkdir "$1"
    cp -al "$2" "$1/debian"
    if [ -n "${3:-}" ]; then cp -al "$3" "$1/python"; fi
}

# copy_driver_context: put the files that Containerfile copies into $work/context, and the SBOM into $parts
copy_driver_context() {
    if [ -n "$base" ]; then debian=$work/none; else debian=$(debian_tree "$arch"); fi
    python=$(python_tree)
    driver=$(driver_tree)
    cp -al "$driver" "$work/context/driver"
    mkdir -p "$work/context/driver/usr/share/sbom"
    .venv/bin/python scripts/image/sbom.py --name "$what" --version "$version" --arch "$arch" \
        "$debian" "$python" "$work/context/driver" >"$parts"
    cp "$parts" "$work/context/driver/usr/share/sbom/hyperpod-ebs.cdx.json"
}

# build_driver: write the driver's archive and its SBOM into $work/built
build_driver() {
    copy_driver_context
    runtime=$(base_image runtime "$debian" "$python")
    build_archive Containerfile "$work/context" "$runtime" "localhost/hyperpod-ebs:$version${what#hyperpod-ebs}"
}

# build_workload: write the archive of the examples' image and its SBOM into $work/built
build_workload() {
    if [ -n "$base" ]; then debian=$work/none; else debian=$(debian_tree "$arch"); fi
    cp examples/workload/*.py "$work/context/"
    .venv/bin/python scripts/image/sbom.py --name "$what" --version "$version" --arch "$arch" "$debian" >"$parts"
    system=$(base_image system "$debian")
    build_archive examples/workload/Containerfile "$work/context" "$system" "localhost/$what:latest" # the name in the examples
}

# build_archive FILE CONTEXT BASE NAME: build the last layer, and write the image into an OCI archive
build_archive() {
    label=org.opencontainers.image
    # Build into the archive in one commit, because each commit to buildah's storage copies all files.
    build_image "$1" "$2" "oci-archive:$work/built/image.oci.tar:$4" "$SOURCE_DATE_EPOCH" --layers=false --disable-compression=false \
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
    copy_driver_context
    copy_base_context "$work/base" "$debian" "$python"
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
    if [ -n "$base" ]; then # not cached: the same name can stand for another image tomorrow
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
