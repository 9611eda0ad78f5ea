#!/bin/sh
# enter.sh chroot|boot ROOT SCRATCH PACKAGES PROGRAM: runs without-systemd.sh or under-systemd.sh in a copy of
# the root folder ROOT that is in memory, mounted in SCRATCH, with the debs of PACKAGES and, where it is booted,
# PROGRAM, which is Vault's. Wants a mount namespace of its own, and a process namespace, with which all ends
# that a step started.
set -eu
way=$1 root=$2 scratch=$3 packages=$4 vault=$5
here=$(cd "$(dirname "$0")" && pwd)

mount -t tmpfs tmpfs "$scratch"
cd "$scratch"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$root,upperdir=upper,workdir=work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
cp /etc/resolv.conf root/etc/
mkdir root/packages
cp "$packages"/*.deb "$here"/*.sh "$here"/ansible.yml root/packages/
cp -r "$here/../ansible/roles" root/packages/
if [ "$way" = chroot ]; then
    exec chroot root /packages/without-systemd.sh
fi

# What is installed now must not start, nor wait for an answer.
printf '#!/bin/sh\nexit 101\n' > root/usr/sbin/policy-rc.d
chmod +x root/usr/sbin/policy-rc.d
chroot root sh -euc 'export DEBIAN_FRONTEND=noninteractive; apt-get update
    apt-get install --yes --no-install-recommends systemd-sysv dbus ansible-core python3-apt ucf' > root/packages/apt 2>&1 ||
    { cat root/packages/apt; exit 1; }
rm root/usr/sbin/policy-rc.d
cp "$vault" root/packages/vault
cat > root/etc/systemd/system/packages.service <<'UNIT'
[Unit]
After=mariadb.service
[Service]
Type=oneshot
Environment=HOME=/root LC_ALL=C.UTF-8
ExecStart=/packages/under-systemd.sh
ExecStopPost=/usr/bin/systemctl poweroff --no-block
StandardOutput=file:/packages/said
[Install]
WantedBy=multi-user.target
UNIT
chroot root systemctl enable packages.service
umount --lazy root/dev root/proc
systemd-nspawn --quiet --register=no --keep-unit --private-network --boot --directory=root \
    < /dev/null > boot 2>&1 || cat boot
cat root/packages/said
