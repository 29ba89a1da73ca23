#!/bin/sh
# Turns a bare Debian tree ($1) into the machine that plays the physical server: its administrator `dradmin` (sudo
# without a password, login by key only), DHCP, sshd, an initramfs with the drivers of this virtual hardware and of
# Hyper-V, and only the units that such a machine needs, because every unit costs seconds on an emulated CPU.
# $2 is the folder of this script. No host keys, no machine id, no authorized key: each instance gets its own.
set -eu
tree=$1
here=$2
units=$tree/etc/systemd/system

chroot "$tree" useradd --create-home --shell /bin/bash --uid 1000 dradmin
# "*" forbids every password; "!" would lock the account for keys too while sshd runs without PAM.
chroot "$tree" usermod --password '*' dradmin
echo 'dradmin ALL=(ALL) NOPASSWD: ALL' > "$tree/etc/sudoers.d/dradmin"
chmod 440 "$tree/etc/sudoers.d/dradmin"
mkdir -p -m 700 "$tree/home/dradmin/.ssh"
chroot "$tree" chown dradmin:dradmin /home/dradmin/.ssh
chroot "$tree" useradd --system --home-dir /var/lib/shop shop

rm -f "$tree"/etc/ssh/ssh_host_* "$tree/etc/resolv.conf"
printf 'UseDNS no\nUsePAM no\nPasswordAuthentication no\nHostKey /etc/ssh/ssh_host_ed25519_key\nPrintMotd no\n' \
    > "$tree/etc/ssh/sshd_config.d/machine.conf"
echo 'nameserver 10.0.2.3' > "$tree/etc/resolv.conf"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nClientIdentifier=mac\n' \
    > "$tree/etc/systemd/network/wired.network"
mkdir -p "$tree/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' > "$tree/etc/systemd/journald.conf.d/machine.conf"
chroot "$tree" systemctl --quiet enable systemd-networkd ssh

while read -r unit; do
    case $unit in '' | '#'*) continue ;; esac
    ln -sf /dev/null "$units/$unit"
done < "$here/masked-units"

cp "$here/initramfs.conf" "$here/modules" "$tree/etc/initramfs-tools/"
install -m 755 "$here/file-systems" "$tree/etc/initramfs-tools/hooks/"
chroot "$tree" update-initramfs -u
