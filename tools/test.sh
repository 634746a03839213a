#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds (also with ASan and UBSan, and with clang), runs the tests, and
# ends with the line "N passed, N failed, N skipped", subtests counted. Skips are compared with
# tests/expected-skips.txt: a root shell on Debian 12 has none.
# Usage: tools/test.sh [--quick | --all]   (--quick: only the plain build; --all: also the ports under
# the sanitizers, and the mutations of the core that its tests must catch)
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
all=false
case ${1:-} in
  '') ;;
  --quick) quick=true ;;
  --all) all=true ;;
  -h | --help) sed -n '3,8s/^# //p' "$0"; exit 0 ;;
  *) echo "test.sh: unknown option $1; see tools/test.sh --help" >&2; exit 2 ;;
esac

tools/deps.sh --tests
build_root=${LEAT_BUILD_ROOT:-$PWD/build-test}
mkdir -p "$build_root"

# build NAME [meson options]: configures once, compiles
build() {
  local name=$1
  shift
  if [ ! -f "$build_root/$name/build.ninja" ]; then
    meson setup "$build_root/$name" "$@" >"$build_root/$name.setup.log" 2>&1 || {
      tail -20 "$build_root/$name.setup.log" >&2
      echo "test.sh: configuring $name failed" >&2
      return 1
    }
  fi
  ninja -C "$build_root/$name" >"$build_root/$name.build.log" 2>&1 || {
    grep -E -A5 'error|FAILED|warning' "$build_root/$name.build.log" | head -40 >&2
    echo "test.sh: building $name failed, see $build_root/$name.build.log" >&2
    return 1
  }
  echo "built: $name"
}

# run NAME [meson test options]: what busy-polls runs alone (is_parallel: false), the rest side by side
run() {
  local name=$1
  shift
  echo "testing: $name"
  rm -f "$build_root/$name/meson-logs/testlog.json" # a run that does not begin leaves none, and is missed
  (cd "$build_root/$name" &&
    meson test --no-rebuild --print-errorlogs --num-processes "$(nproc)" "$@") || unsound+=("$name")
}

unsound=()
build plain -Dbuildtype=debugoptimized
if $all; then long=() ports=(); else long=(--no-suite long) ports=(--no-suite dataplane); fi
run plain "${long[@]}"
reports=("$build_root/plain/meson-logs/testlog.json")
if ! $quick; then
  CC=clang build clang -Dbuildtype=debug # for its warnings
  build sanitized -Dbuildtype=debug -Doptimization=1 -Ddassert=true -Db_sanitize=address,undefined \
    -Db_lundef=false
  export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=halt_on_error=1
  run sanitized --no-suite long --no-suite unsanitized "${ports[@]}"
  reports+=("$build_root/sanitized/meson-logs/testlog.json")
fi
if python3 tools/test_summary.py tests/expected-skips.txt "${reports[@]}"; then
  [ ${#unsound[@]} -eq 0 ] || { echo "test.sh: meson says that the tests of ${unsound[*]} failed" >&2; exit 1; }
else
  exit 1
fi
