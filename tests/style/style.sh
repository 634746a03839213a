#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules of the source that the compiler does not check (TAP). Usage: style.sh SOURCE_ROOT
set -uo pipefail
cd "$1" || exit 1
mapfile -t sources < <(find base bench client dataplane examples include node replication storage tests tools \
  -name '*.c' -o -name '*.h' | sort)
number=0
result() { # result NAME OUTPUT: ok when there is none
  number=$((number + 1))
  if [ -z "$2" ]; then
    echo "ok $number - $1"
  else
    printf '%s\n' "$2" | head -20 | sed 's/^/# /'
    echo "not ok $number - $1"
    failed=1
  fi
}
failed=0
echo 1..6
result "clang-format" "$(clang-format --dry-run -Werror "${sources[@]}" 2>&1 | grep error: | grep -v tests/format/fields.h)"
result "every source has an SPDX line" "$(grep -L 'SPDX-License-Identifier: Apache-2.0' "${sources[@]}")"
result "rte_ headers in the port's files only" \
  "$(grep -lE '#include [<"]rte_' "${sources[@]}" | grep -vE '^dataplane/port_')"
result "liburing in one file" \
  "$(grep -l 'liburing.h' "${sources[@]}" | grep -vxE 'storage/disk_uring.c|tests/chaos/faultcalls.c')"
result "files under 620 lines" "$(wc -l "${sources[@]}" | awk '$2 != "total" && $1 > 620')"
result "no include of a source file" "$(grep -nE '#include ".*\.c"' "${sources[@]}")"
exit $failed
