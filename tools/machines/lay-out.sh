# Puts the running Debian onto empty disks, as its installer would, with its own tools. It runs as process 1 of that
# Debian, whose root is read-only; the lines above this one, written by `laying.py`, say
#
#   firmware=bios|uefi  layout=plain|lvm|lvm2|md  file_system=ext4|xfs|btrfs  disks="SERIAL…"  identity=SERIAL
#
# BIOS: MBR label, GRUB in the gap before the first partition. UEFI: GPT, an EFI system partition of 64 MiB first.
# Then one partition to the end of each disk: the root itself (plain), a member of a RAID 1 (md), or a physical volume
# of one volume group with one logical volume over all of it (lvm, lvm2).
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
set -eux
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run

device() {
    for entry in /sys/block/vd*; do
        [ "$(cat "$entry/serial")" = "$1" ] && echo "/dev/${entry##*/}" && return
    done
    return 1
}

parts=
for serial in $disks; do
    disk=$(device "$serial")
    if [ "$firmware" = uefi ]; then
        printf 'label: gpt\nsize=64M, type=U\ntype=L\n' | sfdisk --quiet "$disk"
        mkfs.vfat -F 32 "${disk}1"
        parts="$parts ${disk}2"
    else
        printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk --quiet "$disk"
        parts="$parts ${disk}1"
    fi
done

case $layout in
    plain) root=${parts# } ;;
    lvm*)
        export LVM_SYSTEM_DIR=/tmp/lvm
        mkdir $LVM_SYSTEM_DIR
        # No udev runs here to make the nodes.
        echo 'activation { udev_sync = 0 udev_rules = 0 }' > $LVM_SYSTEM_DIR/lvm.conf
        modprobe dm_mod
        # shellcheck disable=SC2086
        vgcreate harbour $parts
        lvcreate --yes --wipesignatures n --zero n --extents 100%FREE --name root harbour
        root=/dev/mapper/harbour-root
        ;;
    md)
        root=/dev/md0
        # shellcheck disable=SC2086
        mdadm --create $root --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean --homehost=any --name=root $parts
        ;;
esac

options=defaults
case $file_system in
    # No lazy initialisation: the kernel would go on writing inode tables for minutes after the first boot.
    ext4) mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard $root ;;
    xfs) mkfs.xfs -q -f -K $root ;;
    btrfs) mkfs.btrfs -q -f -K $root ;;
esac
mount -t $file_system $root /mnt
if [ $file_system = btrfs ]; then
    btrfs subvolume create /mnt/@rootfs
    umount /mnt
    options=subvol=@rootfs
    mount -t btrfs -o $options $root /mnt
fi

cp -ax /. /mnt/
tar -xf "$(device "$identity")" -C /mnt
uuid=$(blkid -s UUID -o value $root)
echo "UUID=$uuid / $file_system $options 0 0" > /mnt/etc/fstab
for folder in dev proc sys run; do mount --bind /$folder /mnt/$folder; done

for serial in $disks; do
    disk=$(device "$serial")
    if [ "$firmware" = uefi ]; then
        mkdir -p /mnt/boot/efi
        mount -t vfat "${disk}1" /mnt/boot/efi
        chroot /mnt grub-install --target=x86_64-efi --efi-directory=/boot/efi --removable --no-nvram
        umount /mnt/boot/efi
    else
        chroot /mnt grub-install --target=i386-pc "$disk"
    fi
done
if [ "$firmware" = uefi ]; then
    first=$(device "${disks%% *}")1
    echo "UUID=$(blkid -s UUID -o value "$first") /boot/efi vfat umask=0077 0 0" >> /mnt/etc/fstab
fi

where=UUID=$uuid
case $layout in lvm*) where=$root ;; esac
case $file_system in btrfs) where="$where rootflags=$options" ;; esac
boot=$(chroot /mnt grub-mkrelpath /boot)
cd /mnt/boot
cat > grub/grub.cfg << END
serial --unit=0
terminal_output serial
set timeout=0
menuentry Debian {
    linux $boot/$(ls vmlinuz-*) root=$where rw console=ttyS0 net.ifnames=0 quiet
    initrd $boot/$(ls initrd.img-*)
}
END
cd /

umount -R /mnt
case $layout in
    lvm*) vgchange --activate n harbour ;;
    md) mdadm --stop $root ;;
esac
sync
echo "laid out"
echo o > /proc/sysrq-trigger
sleep 60
