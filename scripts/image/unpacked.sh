#!/bin/sh
# Record each package that mmdebstrap has unpacked, as scanners expect it in images without dpkg, and remove the packages
# in image/left-out.txt: unpacked.sh DIRECTORY, called by mmdebstrap.
set -eu
cd "$(dirname "$0")/../.."
tree=$1

left_out() { sed 's/[[:space:]]*#.*//; /^$/d' image/left-out.txt; }

mkdir -p "$tree/.status.d"
for deb in "$tree"/var/cache/apt/archives/*.deb; do
    package=$(dpkg-deb --field "$deb" Package)
    if left_out | grep -qxF "$package"; then
        dpkg-deb --fsys-tarfile "$deb" | tar --list | grep -v '/$' | while read -r path; do
            case $path in
            ./usr/*) rm -f "$tree/$path" ;;
            *) rm -f "$tree/$path" "$tree/usr/$path" ;; # / and /usr are merged
            esac
        done
    else
        {
            dpkg-deb --field "$deb" Package Version Architecture Source Section Maintainer Homepage Description
            echo "Status: install ok unpacked"
        } >"$tree/.status.d/$package"
        # Only the paths; scripts/image/debian.sh adds the sums of the files that stay.
        dpkg-deb --fsys-tarfile "$deb" | tar --list --quoting-style=literal | sed 's,^\./,,; /\/$/d' \
            >"$tree/.status.d/$package.md5sums"
    fi
done
