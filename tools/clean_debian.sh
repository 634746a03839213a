#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a clean Debian 12 with mmdebstrap, copies this source into it, and runs both of README's commands
# there: tools/demo.sh, tools/test.sh. Says of each whether it passed. As root; nothing is left behind: all
# mounts and processes are in namespaces of their own and end with them.
#
# usage: tools/clean_debian.sh [--quick]
#   --quick     tools/test.sh --quick
# Environment: LEAT_CLEAN_DIR, where the system goes, some 6 GB of a disk [/var/tmp]; LEAT_MIRROR, where its
# packages come from [http://deb.debian.org/debian].
# Exit code 0: both passed.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=''
case ${1:-} in
  '') ;;
  --quick) quick=' --quick' ;;
  -h | --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "clean_debian.sh: unknown option $1; see tools/clean_debian.sh --help" >&2; exit 2 ;;
esac
[ "$(id -u)" -eq 0 ] || { echo "clean_debian.sh: needs root, for a system of its own" >&2; exit 2; }

say() { printf 'clean Debian: %s\n' "$*"; }

# The outer run makes the directory and the namespaces, waits, and removes the directory.
if [ -z "${LEAT_CLEAN_ROOT:-}" ]; then
  tools/deps.sh --soak
  LEAT_CLEAN_ROOT=$(mktemp -d "${LEAT_CLEAN_DIR:-/var/tmp}/leat-clean-XXXXXX")
  export LEAT_CLEAN_ROOT
  inner=''
  clean_up() {
    local code=$?
    trap '' INT TERM HUP
    if [ -n "$inner" ]; then # the first process of its namespace: all the others go with it
      kill -9 "$inner" 2>/dev/null || true
      wait "$inner" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$LEAT_CLEAN_ROOT"
    exit "$code"
  }
  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  unshare --mount --pid --fork --kill-child --propagation private "tools/${0##*/}" ${quick:+--quick} &
  inner=$!
  code=0
  wait "$inner" || code=$?
  inner=''
  exit "$code"
fi

# ---- in the namespaces ----
system=$LEAT_CLEAN_ROOT/system
say "making it"
mkdir "$system"
mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates bookworm "$system" \
  "${LEAT_MIRROR:-http://deb.debian.org/debian}"
[ -f /etc/resolv.conf ] && cp -L /etc/resolv.conf "$system/etc/resolv.conf"
mkdir "$system/leat"
if git rev-parse --git-dir >/dev/null 2>&1; then git ls-files -z; else find . -type f -not -path './build*' -print0; fi |
  tar --create --null --files-from=- | tar --extract --directory "$system/leat"

mount --bind "$system" "$system" # `ip netns exec` wants a root that is a mount
mount -t proc proc "$system/proc"
mount --rbind /sys "$system/sys"
mount --rbind /dev "$system/dev"
mount -t tmpfs -o mode=1777 leat-clean "$system/dev/shm"
mount -t tmpfs -o mode=755 leat-clean "$system/run"
mount -t tmpfs -o mode=1777 leat-clean "$system/tmp"

# inside COMMAND: with an environment of its own
failed=0
inside() {
  local began=$SECONDS
  say "$1: begins"
  if chroot "$system" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    sh -c "cd /leat && exec $1"; then
    say "$1: passed, $((SECONDS - began)) s"
  else
    say "$1: FAILED, exit status $?, $((SECONDS - began)) s"
    failed=1
  fi
}
inside tools/demo.sh
inside "tools/test.sh$quick"
exit $failed
