#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Does the test bite? Takes one rule out of a scratch copy of the core at a time (mutations/*.patch)
# and demands that a golden trace or the property test finds it within SEEDS seeds. Prints a table;
# fails when a mutation survives.
#
#   tests/replication/mutants.sh [NAME...]       SEEDS=2000 CC=cc
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
seeds=${SEEDS:-2000}
survived=0
caught=0

build() { # FOLDER: its cores, the tests of the source
    harness="clients disk harness invariants replica"
    files=""
    for file in $harness; do files="$files $1/tests/replication/$file.c"; done
    for main in property trace; do
        ${CC:-cc} -O1 -std=c11 -D_GNU_SOURCE -fno-strict-aliasing -I"$1/replication/include" \
            -I"$1/base/include" -I"$1/include" -o "$1/$main" "$1/tests/replication/$main.c" \
            $files "$1"/replication/*.c || return 1
    done
}

by() { # FOLDER: who finds it
    if ! timeout 60 "$1/trace" "$1"/tests/traces/*.trace >"$1/trace.out" 2>&1; then
        sed -n 's/^not ok [0-9]* - \(.*\)\.trace$/\1/p' "$1/trace.out" | head -1 |
            sed 's/^/trace /'
        [ -s "$1/trace.out" ] || echo "trace"
    fi
    if ! timeout 120 "$1/property" --seeds "$seeds" >"$1/property.out" 2>&1; then
        sed -n 's/^# seed \([0-9]*\): [^:]*: \(.*\)$/seed \1: \2/p' "$1/property.out" | head -1 |
            cut -c1-100
    fi
}

for patch in "$source"/tests/replication/mutations/*.patch; do
    name=$(basename "$patch" .patch)
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    copy="$scratch/$name"
    mkdir -p "$copy/tests"
    cp -r "$source/replication" "$source/base" "$source/include" "$copy/"
    cp -r "$source/tests/replication" "$source/tests/traces" "$copy/tests/"
    if ! patch -s -p0 -d "$copy" <"$patch" || ! build "$copy"; then
        printf '%-36s does not apply or build\n' "$name"
        survived=$((survived + 1))
        continue
    fi
    found=$(by "$copy" | tr '\n' ';')
    if [ -n "$found" ]; then
        caught=$((caught + 1))
        printf '%-36s %s\n' "$name" "$found"
    else
        survived=$((survived + 1))
        printf '%-36s SURVIVED\n' "$name"
    fi
    rm -rf "$copy"
done
echo "$caught caught, $survived not"
[ "$survived" -eq 0 ]
