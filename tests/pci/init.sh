#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the guest that tests/pci/guest.sh starts: gives both network cards to
# vfio-pci, lets two port_echo processes speak over them, and powers off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo 96 > /proc/sys/vm/nr_hugepages
for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci; do
  parameters=
  [ $module = vfio_iommu_type1 ] && parameters=allow_unsafe_interrupts=1
  [ -e /modules/$module.ko ] && { insmod /modules/$module.ko $parameters || echo "GUEST no $module"; }
done
cards=
for device in /sys/bus/pci/devices/*; do
  [ "$(cat "$device/vendor"):$(cat "$device/device")" = 0x8086:0x10d3 ] || continue
  address=${device##*/}
  echo vfio-pci > "$device/driver_override"
  echo "$address" > /sys/bus/pci/drivers_probe
  echo "GUEST $address $(readlink "$device/driver") $(readlink "$device/iommu_group")"
  cards="$cards $address"
done
set -- $cards
/port_echo pci "$1" 1 2 --seconds "$SECONDS_RUN" --idle sleep --window 2 --verbose "--bytes" 1400 > /one 2>&1 &
one=$!
/port_echo pci "$2" 2 1 --seconds "$SECONDS_RUN" --idle sleep --window 2 --verbose "--bytes" 1400 > /two 2>&1
echo "GUEST two ended with $?"
wait $one
echo "GUEST one ended with $?"
sed 's/^/ONE /' /one
sed 's/^/TWO /' /two
poweroff -f
