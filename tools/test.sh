#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds (also with ASan and UBSan, with clang, for the simulator with its extra
# assertions, and for fuzzing), runs the tests and the gates: fresh seeds of the simulator, the planted
# bugs, a minute of chaos, ten seconds per fuzz target. Ends with the line "N passed, N failed, N skipped",
# in which a subtest, a seed, a bug, a row and a target count as one each. Skips are compared with
# tests/expected-skips.txt (a root shell on Debian 12 has none), what was run with tests/expected-counts.txt.
# Usage: tools/test.sh [--quick | --all]   (--quick: only the plain build's tests; --all: also the ports under
# the sanitizers, and the mutations of the core that its tests must catch)
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
all=false
case ${1:-} in
  '') ;;
  --quick) quick=true ;;
  --all) all=true ;;
  -h | --help) sed -n '3,10s/^# //p' "$0"; exit 0 ;;
  *) echo "test.sh: unknown option $1; see tools/test.sh --help" >&2; exit 2 ;;
esac

sim_seeds=1000 dassert_seeds=100 ring_seeds=200 session_seeds=100 fuzz_seconds=10 chaos_minutes=1
tools/deps.sh --tests
build_root=${LEAT_BUILD_ROOT:-$PWD/build-test}
mkdir -p "$build_root"
began=$SECONDS

# build NAME TARGETS [meson options]: configures once, compiles; no TARGETS: all
build() {
  local name=$1 targets=$2
  shift 2
  if [ ! -f "$build_root/$name/build.ninja" ]; then
    meson setup "$build_root/$name" "$@" >"$build_root/$name.setup.log" 2>&1 || {
      tail -20 "$build_root/$name.setup.log" >&2
      echo "test.sh: configuring $name failed" >&2
      return 1
    }
  fi
  # shellcheck disable=SC2086 # several targets
  ninja -C "$build_root/$name" $targets >"$build_root/$name.build.log" 2>&1 || {
    grep -E -A5 'error|FAILED|warning' "$build_root/$name.build.log" | head -40 >&2
    echo "test.sh: building $name failed, see $build_root/$name.build.log" >&2
    return 1
  }
  echo "built: $name, $((SECONDS - began)) s after the begin"
}

# tests_of NAME beside|alone: names of the tests that may run beside others, or must not
tests_of() {
  meson introspect --tests "$build_root/$1" | python3 -c '
import json, sys
for test in sorted(json.load(sys.stdin), key=lambda test: -test["priority"]):
    if test["is_parallel"] == (sys.argv[1] == "beside"):
        print(test["name"])' "$2"
}

# run NAME beside|alone [meson test options]
run() {
  local name=$1 which=$2 tests
  shift 2
  mapfile -t tests < <(tests_of "$name" "$which")
  echo "testing: $name, $which, $((SECONDS - began)) s after the begin"
  reports+=("$build_root/$name/meson-logs/$which.json")
  rm -f "${reports[-1]}" # a run that does not begin leaves none, and is missed
  (cd "$build_root/$name" &&
    meson test --no-rebuild --print-errorlogs --num-processes "$(nproc)" --logbase "$which" "$@" "${tests[@]}") ||
    unsound+=("$name, $which")
}

# gate NAME GATE BUILD [options of gates.py]: what it says goes to its record, which the summary reads
gate() {
  local name=$1 gate=$2 build=$3
  shift 3
  echo "gate: $name, $((SECONDS - began)) s after the begin"
  rm -f "$build_root/$name.gate.json"
  tools/gates.py "$gate" --name "$name" --build "$build_root/$build" --out "$build_root/$name.gate.json" "$@"
}

# What only computes: it takes what the tests that wait leave of the cores. All before the last must have run.
compute() {
  gate sim-release sim plain --count $sim_seeds || true
  gate sim-dassert sim dassert --count $dassert_seeds || true
  gate sim-ring sim plain --simulator leat-sim-small-ring --count $ring_seeds || true
  gate sim-sessions sim plain --simulator leat-sim-few-sessions --count $session_seeds || true
  TMPDIR=/dev/shm gate planted planted plain || true # scratch copies of sources: the disk is the tests'
}

end_computing() {
  if [ -n "$computing" ]; then kill -- "-$computing" 2>/dev/null || true; fi
}

unsound=() reports=() must=(--must plain) computing=''
trap end_computing EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
build plain '' -Dbuildtype=debugoptimized
if $all; then long=() ports=(); else long=(--no-suite long) ports=(--no-suite dataplane --no-suite pci); fi
if ! $quick; then
  CC=clang build clang '' -Dbuildtype=debug # for its warnings
  build sanitized '' -Dbuildtype=debug -Doptimization=1 -Ddassert=true -Db_sanitize=address,undefined \
    -Db_lundef=false
  build dassert tests/sim/leat-sim -Dbuildtype=debugoptimized -Ddassert=true
  tests/fuzz/run --build-only --jobs "$(nproc)" --build "$build_root/fuzz"
  set -m # a process group of its own, that ends with this script
  (chrt --idle --pid 0 "$BASHPID" && compute) >"$build_root/computing.log" 2>&1 &
  computing=$!
  set +m
fi
run plain beside "${long[@]}"
if ! $quick; then
  wait "$computing" || unsound+=("what computes")
  computing=''
  cat "$build_root/computing.log"
fi
run plain alone "${long[@]}"
if ! $quick; then
  export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=halt_on_error=1
  run sanitized beside --no-suite long --no-suite unsanitized "${ports[@]}"
  if $all; then run sanitized alone --no-suite long --no-suite unsanitized; fi
  unset ASAN_OPTIONS UBSAN_OPTIONS
  gate chaos chaos plain --minutes $chaos_minutes || true
  gate fuzz fuzz fuzz --seconds $fuzz_seconds || true
  for name in sim-release sim-dassert sim-ring sim-sessions planted chaos fuzz; do
    reports+=("$build_root/$name.gate.json")
    must+=(--must "$name")
  done
  must+=(--must sanitized)
fi
echo "all was run, $((SECONDS - began)) s after the begin"
if python3 tools/test_summary.py "${must[@]}" tests/expected-skips.txt tests/expected-counts.txt "${reports[@]}"; then
  [ ${#unsound[@]} -eq 0 ] || { echo "test.sh: meson says that tests failed: ${unsound[*]}" >&2; exit 1; }
else
  exit 1
fi
