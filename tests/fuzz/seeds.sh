#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The corpora begin at what the structures are today (TAP): each seed that fuzz_seeds makes lies there as
# it is made, or the fuzzers start from bytes that are refused at the door.
# Usage: seeds.sh FUZZ_SEEDS CORPUS EXAMPLE_YAML
set -u
made=$(mktemp -d "${TMPDIR:-/tmp}/leat-seeds-XXXXXX") || exit 1
trap 'rm -rf "$made"' EXIT
"$1" "$made" "$3" || exit 1
number=0
failed=0
for target in "$made"/*; do
  number=$((number + 1))
  name=$(basename "$target")
  stale=
  for seed in "$target"/*; do
    cmp -s "$seed" "$2/$name/$(basename "$seed")" || stale="$stale $(basename "$seed")"
  done
  if [ -z "$stale" ]; then
    echo "ok $number - the seeds of $name"
  else
    echo "# to make them anew: fuzz_seeds tests/fuzz/corpus docs/leat.example.yaml"
    echo "not ok $number - the seeds of $name:$stale"
    failed=1
  fi
done
echo "1..$number"
[ "$number" -gt 0 ] && exit $failed
