#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Leat builds and runs with from Debian 12's packages, if anything is missing. Root or
# sudo is needed only then. Usage: tools/deps.sh [--check] [--tests] [--compare] [--soak]
set -euo pipefail

packages=(gcc g++ meson ninja-build pkg-config libdpdk-dev liburing-dev libisal-dev libyaml-dev
  libcjson-dev libcmocka-dev libbpf-dev libxdp-dev libnuma-dev libbsd-dev
  iproute2 util-linux scdoc python3)
test_packages=(clang clang-format libclang-rt-14-dev e2fsprogs xfsprogs nftables libfuse3-dev fuse3
  qemu-system-x86 busybox-static cpio valgrind chromium)
compare_packages=(g++ libuv1-dev libraft-dev libnats-dev nats-server etcd-server redis-server libhiredis-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc)
soak_packages=(mmdebstrap debian-archive-keyring)

check_only=false
for argument in "$@"; do
  case $argument in
    --check) check_only=true ;;
    --tests) packages+=("${test_packages[@]}") ;;
    --compare) packages+=("${compare_packages[@]}") ;;
    --soak) packages+=("${soak_packages[@]}") ;;
    *) echo "deps.sh: unknown option $argument" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if $check_only; then
  echo "missing packages: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "deps.sh: missing packages; as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
