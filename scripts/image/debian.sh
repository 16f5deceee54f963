# Debian's part of the image; scripts/image.sh sources this file.
# shellcheck shell=sh disable=SC2154 # variables of scripts/image.sh

# apt_sources: Debian's mirrors as lines of sources.list: the configured mirror, or those of this machine's apt. Outside
# Debian, apt does not trust Debian's keys, so the lines of the configured mirror name the keyring.
apt_sources() {
    mirror=${HYPERPOD_EBS_DEBIAN_MIRROR:-}
    mirror=${mirror%/}
    if [ -n "$mirror" ]; then
        signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        printf 'deb %s %s %s main\n' "$signed" "$mirror" bookworm "$signed" "$mirror" bookworm-updates \
            "$signed" "${HYPERPOD_EBS_DEBIAN_SECURITY_MIRROR:-$mirror-security}" bookworm-security
        return
    fi
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | sort -u |
        while read -r label mirror; do
            case $label in
            Debian) printf 'deb %s %s main\n' "$mirror" bookworm "$mirror" bookworm-updates ;;
            Debian-Security) echo "deb $mirror bookworm-security main" ;;
            esac
        done | sort -u
}

# finish_tree TREE: remove files that nothing in the image uses, and make the files that Debian's scripts would make
finish_tree() {
    entries image/left-out.txt | grep '^/' | while read -r pattern; do
        # shellcheck disable=SC2086 # the pattern is expanded
        rm -rf "$1"$pattern
    done
    # The licences stay: they must be distributed with the image.
    find "$1/usr/share/doc" -type f ! -name copyright -delete
    find "$1/usr/share/doc" -type d -empty -delete
    rm -rf "${1:?}/dev" "$1/etc/resolv.conf" "$1/etc/hostname" "$1/run" "$1/tmp"
    mkdir -p "$1/dev" "$1/run" "$1/mnt" "$1/var/lib/dpkg"
    mkdir -m 1777 "$1/tmp"
    ln -s ../run "$1/var/run"
    ln -s ../tmp "$1/var/tmp"
    mv "$1/.status.d" "$1/var/lib/dpkg/status.d"
    for sums in "$1"/var/lib/dpkg/status.d/*.md5sums; do
        md5sums_in "$1" <"$sums" >"$work/md5sums"
        mv "$work/md5sums" "$sums"
    done
    cp image/passwd image/group "$1/etc/"
    ln -s python3.11 "$1/usr/bin/python3"
    ln -sf dash "$1/usr/bin/sh"
    find "$1" -xdev -perm /6000 -type f -exec chmod u-s,g-s {} +
}

# md5sums_in TREE: the sums of the files whose paths are on stdin and that exist in TREE
md5sums_in() (
    cd "$1" || exit
    while read -r path; do if [ -f "$path" ] && [ ! -L "$path" ]; then echo "$path"; fi; done | xargs --no-run-if-empty -d '\n' md5sum
)

# debian_tree ARCHITECTURE: the directory with Debian's packages; made if the cache has none
debian_tree() {
    dir=$cache/debian-$1-$(digest image/debian-packages.txt image/left-out.txt image/passwd image/group \
        scripts/image/debian.sh scripts/image/unpacked.sh)
    [ -z "$fresh" ] || [ -e "$work/fresh-$1" ] || rm -rf "$dir"
    touch "$work/fresh-$1"
    if [ ! -d "$dir" ]; then
        log "Debian's packages for $1"
        apt_sources >"$work/sources"
        if [ ! -s "$work/sources" ]; then # apt knows a mirror's origin only after an update
            apt-get -o DPkg::Lock::Timeout=300 update >&2
            apt_sources >"$work/sources"
        fi
        [ -s "$work/sources" ] || fail "apt on this machine has no mirror of Debian, as on Ubuntu: set \
HYPERPOD_EBS_DEBIAN_MIRROR to the address of one, see docs/guides/image.md"
        # Unpacked, not installed: no script runs, so neither QEMU nor dpkg's own dependencies are needed.
        # shellcheck disable=SC2016 # mmdebstrap expands $1
        mmdebstrap --quiet --mode=root --variant=extract --architectures="$1" --format=directory \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include="$(entries image/debian-packages.txt | paste -sd ,)" \
            --extract-hook="$root/scripts/image/unpacked.sh"' "$1"' \
            bookworm "$work/debian-$1" "$work/sources" >&2 ||
            fail "cannot download Debian's packages for $1 from $(cut -d ' ' -f 2- "$work/sources" | paste -sd ,): apt's messages above say why"
        finish_tree "$work/debian-$1"
        if [ "$1" = "$native" ]; then compiler=$work/debian-$1; else compiler=$(debian_tree "$native"); fi
        compile_python "$compiler" "$work/debian-$1" usr/lib/python3.11
        mv "$work/debian-$1" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}
