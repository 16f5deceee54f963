#!/bin/sh
# After mmdebstrap unpacked: note each package as scanners know it from images without dpkg, and take out what
# image/left-out.txt names: unpacked.sh DIRECTORY, called by mmdebstrap.
set -eu
cd "$(dirname "$0")/../.."
tree=$1

listed() { sed 's/[[:space:]]*#.*//; /^$/d' image/left-out.txt; }

mkdir -p "$tree/.status.d"
for deb in "$tree"/var/cache/apt/archives/*.deb; do
    package=$(dpkg-deb --field "$deb" Package)
    if listed | grep -qxF "$package"; then
        dpkg-deb --fsys-tarfile "$deb" | tar --list | grep -v '/$' | while read -r path; do
            case $path in
            ./usr/*) rm -f "$tree/$path" ;;
            *) rm -f "$tree/$path" "$tree/usr/$path" ;; # moved by the merge of / and /usr
            esac
        done
    else
        {
            dpkg-deb --field "$deb" Package Version Architecture Source Section Maintainer Homepage Description
            echo "Status: install ok unpacked"
        } >"$tree/.status.d/$package"
        dpkg-deb --fsys-tarfile "$deb" | tar --list --quoting-style=literal | sed 's,^\./,,; /\/$/d' \
            >"$tree/.status.d/$package.md5sums" # the files yet; scripts/image/debian.sh adds the sums of those that stay
    fi
done
