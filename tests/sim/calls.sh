#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every call of the product that leaves it is simulated, or known to need it not: what neither wraps.txt nor
# unsimulated.txt names would reach the real machine from inside a simulated one, and nobody would see it.
# calls.sh SIMULATOR WRAPS UNSIMULATED ARCHIVE...
set -eu
simulator=$1 wraps=$2 unsimulated=$3
shift 3
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

nm --undefined-only "$@" | awk '$1 == "U" { print $2 }' | sort -u > "$temporary/called"
{ nm --defined-only "$@"; nm --defined-only "$simulator"; } | awk 'NF == 3 { print $3 }' | sort -u > "$temporary/ours"
{ tr -s ' ' '\n' < "$wraps"; grep -v '^#' "$unsimulated" | tr -s ' ' '\n'; } | sort -u > "$temporary/known"
comm -23 "$temporary/called" "$temporary/ours" | comm -23 - "$temporary/known" > "$temporary/unknown"
echo 1..1
if [ "$(wc -l < "$temporary/called")" -gt 100 ] && [ ! -s "$temporary/unknown" ]; then
    echo "ok 1 - every call that leaves the product is simulated or known"
else
    echo "not ok 1 - every call that leaves the product is simulated or known"
    sed 's/^/# neither in wraps.txt nor in unsimulated.txt: /' "$temporary/unknown"
fi
