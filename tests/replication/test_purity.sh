#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The core is pure (DESIGN 3): what its archive needs from outside is memory moves, the assert
# handler and the stack protector. TAP.  usage: test_purity.sh ARCHIVE
set -eu
allowed='^(memcpy|memmove|memset|memcmp|leat_assert_fail|__stack_chk_fail)$'
# a sanitizer's calls are not the core's
noise='^(__asan_|__ubsan_|__sanitizer|_GLOBAL_OFFSET_TABLE_$)'
undefined=$(mktemp)
defined=$(mktemp)
trap 'rm -f "$undefined" "$defined"' EXIT
nm --undefined-only "$1" | awk 'NF == 2 {print $2}' | sort -u >"$undefined"
nm --defined-only "$1" | awk 'NF == 3 {print $3}' | sort -u >"$defined"
echo 1..2
if [ "$(grep -c '^leat_core_' "$defined")" -ge 5 ]; then
    echo "ok 1 - the archive holds the core"
else
    echo "not ok 1 - the archive holds the core"
fi
foreign=$(comm -23 "$undefined" "$defined" | grep -Ev "$allowed" | grep -Ev "$noise" || true)
if [ -z "$foreign" ]; then
    echo "ok 2 - nothing foreign is called"
else
    echo "not ok 2 - nothing foreign is called"
    echo "$foreign" | sed 's/^/# /'
fi
