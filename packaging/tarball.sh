#!/bin/sh
# tarball.sh files TREE FOLDER: lays the package's files in TREE out in FOLDER, to run from anywhere.
# tarball.sh symbols TREE FOLDER: the debug symbols.
set -eu
what=$1 tree=$2 to=$3
if [ "$what" = symbols ]; then
    cp -r "$tree" "$to"
    exit
fi
mkdir -p "$to/bin" "$to/lib" "$to/share/keyward/systemd" "$to/share/keyward/apparmor"
cp "$tree/usr/bin/keyward" "$to/bin/"
cp "$tree/usr/lib/mysql/plugin/keyward.so" "$to/lib/"
ln -s keyward.so "$to/lib/component_keyring_keyward.so"
for folder in bash-completion fish keyward man zsh; do
    cp -r "$tree/usr/share/$folder" "$to/share/"
done
cp "$tree"/lib/systemd/system/* "$to/share/keyward/systemd/"
cp "$tree/etc/apparmor.d/abstractions/keyward" "$to/share/keyward/apparmor/"
cp -r "$tree/usr/share/doc/keyward" "$to/share/doc"
rm "$to/share/doc/changelog.Debian.gz"
