#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Leat beside etcd, NATS JetStream, libraft and Redis streams, three nodes each on this host. Installs Debian's packages
# of them if they are missing (some start a service of their own: systemctl disable --now etcd redis-server nats-server),
# builds Leat and the load clients, and measures. Usage: bench/compare.sh [options]; --help lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${LEAT_COMPARE_BUILD:-build-compare}

if [[ " $* " != *" --help "* && " $* " != *" -h "* ]]; then
  tools/deps.sh --compare
  [ -f "$build/build.ninja" ] || meson setup "$build" -Dbuildtype=debugoptimized -Dcompare=true >/dev/null
  ninja -C "$build" >"$build/compare-build.log" 2>&1 || { tail -20 "$build/compare-build.log" >&2; exit 1; }
fi
exec python3 bench/compare/compare.py --build "$(realpath -m "$build")" "$@"
