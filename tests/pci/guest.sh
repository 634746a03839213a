#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real PCI driver: a small guest under software emulation with two e1000e cards on one wire, an
# emulated IOMMU and vfio-pci. Two port_echo processes in it exchange datagrams that they check byte
# for byte. The kernel is unpacked from its package, not installed.
#
# Usage: guest.sh PORT_ECHO   Exit 77: what it needs is not here, and why.
set -euo pipefail

echo_program=$1
here=$(cd "$(dirname "$0")" && pwd)
limit_s=240
run_s=25

skip() { echo "1..0 # SKIP $1"; exit 77; }
fail() { # meson shows what is on stderr
  echo "not ok 1 - $1"
  { echo "# $1; the guest's console:"; sed 's/^/# /' "$work/serial" | tail -n 60; } >&2
  exit 1
}

for tool in qemu-system-x86_64 busybox cpio dpkg-deb apt-get ldd; do
  command -v $tool >/dev/null || skip "$tool is not installed (tools/deps.sh --tests)"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The kernel: a package that is kept, or fetched now.
kept=${LEAT_TEST_KERNEL_DIR:-${TMPDIR:-/tmp}/leat-test-kernel-$(id -u)}
mkdir -p -m 700 "$kept"
[ -O "$kept" ] || skip "$kept is another user's"
if ! ls "$kept"/linux-image-*.deb >/dev/null 2>&1; then
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: //p' | head -n 1)
  [ -n "$package" ] || skip "no package linux-image-amd64 is known"
  (cd "$kept" && timeout 120 apt-get download "$package" >/dev/null 2>&1) || skip "$package cannot be fetched"
fi
dpkg-deb -x "$(ls "$kept"/linux-image-*.deb | head -n 1)" "$work/kernel"

root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,modules}
cp "$(command -v busybox)" "$root/bin/busybox"
! ldd "$root/bin/busybox" >/dev/null 2>&1 || skip "busybox is not the static one (busybox-static)"
cp "$echo_program" "$root/port_echo"
ldd "$echo_program" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci; do
  find "$work/kernel/lib/modules" -name "$module.ko" -exec cp {} "$root/modules/" \;
done
{ head -n 1 "$here/init.sh"; echo "SECONDS_RUN=$run_s"; tail -n +2 "$here/init.sh"; } > "$root/init"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initramfs"

status=0
timeout "$limit_s" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 768 \
  -nodefaults -display none -no-reboot -serial file:"$work/serial" \
  -device intel-iommu,intremap=off,caching-mode=on,aw-bits=48 \
  -netdev hubport,id=wire1,hubid=1 -device e1000e,netdev=wire1,mac=02:00:00:00:00:01 \
  -netdev hubport,id=wire2,hubid=1 -device e1000e,netdev=wire2,mac=02:00:00:00:00:02 \
  -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initramfs" \
  -append "console=ttyS0 quiet intel_iommu=on panic=-1" </dev/null >"$work/qemu" 2>&1 || status=$?
[ -n "${LEAT_TEST_VERBOSE:-}" ] && cat "$work/qemu" "$work/serial" >&2
[ $status -ne 124 ] || fail "the guest did not end within $limit_s s"
[ $status -eq 0 ] || { cat "$work/qemu" >> "$work/serial"; fail "qemu ended with $status"; }

tr -d '\r' < "$work/serial" > "$work/lines"
number() { sed -n "s/^$1  *$2  *\([0-9]*\)\$/\1/p" "$work/lines" | head -n 1; }
for who in ONE TWO; do
  good=$(number $who good) bad=$(number $who bad)
  [ "${good:-0}" -ge 100 ] || fail "$who received ${good:-nothing} datagrams well"
  [ "${bad:-1}" -eq 0 ] || fail "$who received $bad damaged ones"
  [ "$(number $who rx_arp)" -ge 1 ] || fail "$who saw no ARP"
  grep -q "^$who pci, .*checksums by the device" "$work/lines" || fail "$who: no checksum offload"
  echo "# $who: $good datagrams; $(grep "^$who pci" "$work/lines")"
done
echo "ok 1 - e1000e by vfio-pci exchanges datagrams"
echo "1..1"
