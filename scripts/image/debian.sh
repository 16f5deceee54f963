# Debian's part of the image, for scripts/image.sh to read in.
# shellcheck shell=sh disable=SC2154 # what is set there

# Debian's mirrors: the one that is set, or those of this machine's own apt. The keys are Debian's where apt has others.
sources() {
    mirror=${HYPERPOD_EBS_DEBIAN_MIRROR:-}
    mirror=${mirror%/}
    if [ -n "$mirror" ]; then
        signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        printf 'deb %s %s %s main\n' "$signed" "$mirror" bookworm "$signed" "$mirror" bookworm-updates \
            "$signed" "${HYPERPOD_EBS_DEBIAN_SECURITY_MIRROR:-$mirror-security}" bookworm-security
        return
    fi
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' | sort -u |
        while read -r label mirror; do
            case $label in
            Debian) printf 'deb %s %s main\n' "$mirror" bookworm "$mirror" bookworm-updates ;;
            Debian-Security) echo "deb $mirror bookworm-security main" ;;
            esac
        done | sort -u
}

# finish TREE: leave out what nothing uses, and add what Debian's scripts would have.
finish() {
    listed image/left-out.txt | grep '^/' | while read -r pattern; do
        # A pattern is meant to become many.
        # shellcheck disable=SC2086
        rm -rf "$1"$pattern
    done
    # Who passes the image on passes the licences on.
    find "$1/usr/share/doc" -type f ! -name copyright -delete
    find "$1/usr/share/doc" -type d -empty -delete
    rm -rf "$1/dev" "$1/etc/resolv.conf" "$1/etc/hostname" "$1/run" "$1/tmp"
    mkdir -p "$1/dev" "$1/run" "$1/mnt" "$1/var/lib/dpkg"
    mkdir -m 1777 "$1/tmp"
    ln -s ../run "$1/var/run"
    ln -s ../tmp "$1/var/tmp"
    mv "$1/.status.d" "$1/var/lib/dpkg/status.d"
    for sums in "$1"/var/lib/dpkg/status.d/*.md5sums; do
        summed "$1" <"$sums" >"$work/md5sums"
        mv "$work/md5sums" "$sums"
    done
    cp image/passwd image/group "$1/etc/"
    ln -s python3.11 "$1/usr/bin/python3"
    ln -sf dash "$1/usr/bin/sh"
    find "$1" -xdev -perm /6000 -type f -exec chmod u-s,g-s {} +
}

# summed TREE: of the files read, those that are there, each with its sum
summed() (
    cd "$1"
    while read -r path; do if [ -f "$path" ] && [ ! -L "$path" ]; then echo "$path"; fi; done | xargs --no-run-if-empty -d '\n' md5sum
)

# debian ARCHITECTURE: where Debian's part lies, laid out now or before
debian() {
    dir=$cache/debian-$1-$(digest image/debian-packages.txt image/left-out.txt image/passwd image/group \
        scripts/image/debian.sh scripts/image/unpacked.sh)
    [ -z "$fresh" ] || [ -e "$work/fresh-$1" ] || rm -rf "$dir"
    touch "$work/fresh-$1"
    if [ ! -d "$dir" ]; then
        say "Debian's packages for $1"
        sources >"$work/sources"
        if [ ! -s "$work/sources" ]; then # whose mirror it is, apt knows after a look
            apt-get -o DPkg::Lock::Timeout=300 update >&2
            sources >"$work/sources"
        fi
        [ -s "$work/sources" ] || fail "this machine's apt knows no mirror of Debian, as on Ubuntu: set \
HYPERPOD_EBS_DEBIAN_MIRROR to the address of one, as docs/guides/image.md has it"
        # Unpacked, not installed: no script runs, so neither an emulator nor what dpkg wants is needed.
        mmdebstrap --quiet --mode=root --variant=extract --architectures="$1" --format=directory \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include="$(listed image/debian-packages.txt | paste -sd ,)" \
            --extract-hook="$root/scripts/image/unpacked.sh"' "$1"' \
            bookworm "$work/debian-$1" "$work/sources" >&2 ||
            fail "Debian's packages for $1 cannot be had: see above what apt says of $(cut -d ' ' -f 2- "$work/sources" | paste -sd ,)"
        finish "$work/debian-$1"
        if [ "$1" = "$native" ]; then compiler=$work/debian-$1; else compiler=$(debian "$native"); fi
        compile "$compiler" "$work/debian-$1" usr/lib/python3.11
        mv "$work/debian-$1" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}
