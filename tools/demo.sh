#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three nodes on this host replicate and persist a real file, survive the death of their leader, and
# give the file back byte for byte.
#
# usage: tools/demo.sh [FILE] [--net memif|af_packet] [--ack durable|replicated] [--keep]
#   FILE        every line of it, newline and all, becomes a record (default: a text of at least 10 MB
#               assembled from the system's own documents)
#   --net       memif needs no privileges; af_packet runs in network namespaces of its own [memif]
#   --ack       when an append counts: on disk on a majority, or in memory on one [durable]
#   --keep      leaves the cluster running and says how to use it
# Exit code 0: every byte was found on every node.
set -euo pipefail

usage() { sed -n '5,11s/^# \{0,1\}//p' "$0"; }
root=$(cd "$(dirname "$0")/.." && pwd)
file='' net=memif ack=durable keep=false
while [ $# -gt 0 ]; do
  case $1 in
    --net) net=${2:-}; shift ;;
    --ack) ack=${2:-}; shift ;;
    --keep) keep=true ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "demo.sh: unknown option $1; see tools/demo.sh --help" >&2; exit 2 ;;
    *) file=$1 ;;
  esac
  shift
done
case $net in memif | af_packet) ;; *) echo "demo.sh: --net takes memif or af_packet" >&2; exit 2 ;; esac
case $ack in durable | replicated) ;; *) echo "demo.sh: --ack takes durable or replicated" >&2; exit 2 ;; esac
[ -z "$file" ] || [ -r "$file" ] || { echo "demo.sh: $file: cannot be read" >&2; exit 2; }
[ -z "$file" ] || file=$(realpath "$file")

started=$SECONDS
work='' pids=(0 0 0 0) namespaces=() client=0 finished=false step=starting

say() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*"; }
fail() {
  printf 'demo.sh: %s\n' "$1" >&2
  exit 1
}

# Nothing stays behind: processes by their ids, namespaces, the arenas in memory, the directory.
clean_up() {
  local code=$? n
  trap - EXIT INT TERM
  [ $code -eq 0 ] || $finished || echo "demo.sh: failed while: $step" >&2
  if [ $code -eq 0 ] && $keep; then exit 0; fi
  [ "$client" -eq 0 ] || kill "$client" 2>/dev/null || true
  for n in 1 2 3; do [ "${pids[n]}" -eq 0 ] || kill "${pids[n]}" 2>/dev/null || true; done
  for n in 1 2 3; do
    if [ "${pids[n]}" -ne 0 ]; then
      for _ in $(seq 200); do kill -0 "${pids[n]}" 2>/dev/null || break; sleep 0.05; done
      kill -9 "${pids[n]}" 2>/dev/null || true
      wait "${pids[n]}" 2>/dev/null || true
    fi
  done
  for n in "${namespaces[@]}"; do ip netns del "$n" 2>/dev/null || true; done
  if [ -n "$work" ]; then
    if [ $code -ne 0 ]; then
      for n in 1 2 3; do [ ! -f "$work/node$n.log" ] || { echo "node $n said last:" >&2; tail -n 3 "$work/node$n.log" >&2; }; done
    fi
    rm -rf "$work" "/dev/shm/$(basename "$work")"
  fi
  exit $code
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# af_packet needs namespaces: as an unprivileged user, in a user namespace of its own.
if [ $net = af_packet ] && [ "$(id -u)" -ne 0 ] && [ -z "${LEAT_DEMO_UNSHARED:-}" ]; then
  LEAT_DEMO_UNSHARED=1 exec unshare --user --map-root-user --net --mount \
    "$0" ${file:+"$file"} --net "$net" --ack "$ack"
fi

step="installing what is missing"
[ -n "${LEAT_DEMO_UNSHARED:-}" ] || "$root/tools/deps.sh" || fail "packages are missing; run tools/deps.sh as root once"

step="building"
build=${LEAT_BUILD:-$root/build}
if ! { [ -x "$build/tools/leatd" ] && [ -x "$build/tools/leat" ] && [ -x "$build/bench/logbench" ]; } ||
  { [ -w "$build" ] && [ -z "${LEAT_BUILD:-}" ]; }; then
  if [ ! -w "$root" ] && [ ! -w "$build" ]; then
    build=$(mktemp -d /var/tmp/leat-build-XXXXXX)
  fi
  say "building in $build"
  [ -f "$build/build.ninja" ] || meson setup "$build" "$root" >"$build.setup.log" 2>&1 ||
    fail "configuring failed, see $build.setup.log"
  rm -f "$build.setup.log"
  ninja -C "$build" tools/leatd tools/leat bench/logbench >/tmp/leat-demo-build.$$ 2>&1 || {
    grep -A3 error /tmp/leat-demo-build.$$ | head -20 >&2
    rm -f /tmp/leat-demo-build.$$
    fail "building failed; run ninja -C $build to see why"
  }
  rm -f /tmp/leat-demo-build.$$
fi
leat=$build/tools/leat leatd=$build/tools/leatd logbench=$build/bench/logbench

step="making a directory on a disk"
work=$(mktemp -d /var/tmp/leat-demo-XXXXXX)
if [ -z "$file" ]; then
  step="assembling a text"
  say "assembling a text of at least 10 MB from this system's documents"
  file=$work/text
  { find -L /usr/share/common-licenses /usr/share/doc /usr/share/perl /usr/share/perl5 /usr/share/vim \
    -type f -readable -not -name '*.gz' -size -4096k -print0 2>/dev/null | sort -z |
    xargs -0 cat 2>/dev/null || true; } | head -c 12000000 >"$file" || true
  while [ "$(stat -c %s "$file")" -lt 10000000 ]; do
    [ -s "$file" ] || fail "no documents in /usr/share/doc; name a FILE"
    head -c 2000000 "$file" >"$work/more" && cat "$work/more" >>"$file"
  done
  rm -f "$work/more"
fi
bytes=$(stat -c %s "$file")
lines=$(awk 'END { print NR }' "$file")
[ "$lines" -gt 0 ] || fail "$file has no lines"

step="configuring three nodes"
cluster=$(cat /proc/sys/kernel/random/uuid)
tag=$(basename "$work" | tr -dc 'A-Za-z0-9' | tail -c 6)
for n in 1 2 3; do
  {
    echo "cluster: $cluster"
    echo "node: $n"
    echo "nodes:"
    for m in 1 2 3; do echo "  - {id: $m, ip: 10.77.0.$m}"; done
    echo "socket: node$n.sock"
    if [ $net = memif ]; then echo "net: {kind: memif, memif_dir: memif}"
    else echo "net: {kind: af_packet, interface: leat0}"; fi
    echo "storage: {data_dir: data$n}"
    echo "memory: {arena_dir: /dev/shm/$(basename "$work")}"
    echo "default_log: {replicated: true}"
  } >"$work/node$n.yaml"
  "$leat" format --config "$work/node$n.yaml" >"$work/node$n.log" 2>&1 || fail "$(tail -n 1 "$work/node$n.log")"
done

# One namespace per node, joined by a bridge in a fourth; the node's address is in no kernel.
if [ $net = af_packet ]; then
  step="making network namespaces"
  mkdir -p /run/netns 2>/dev/null || true
  [ -z "${LEAT_DEMO_UNSHARED:-}" ] || mount -t tmpfs tmpfs /run
  switch=leat-sw-$tag
  ip netns add "$switch" || fail "no network namespaces here: use --net memif"
  namespaces+=("$switch")
  ip -n "$switch" link add br0 type bridge
  ip -n "$switch" link set br0 up
  for n in 1 2 3; do
    name=leat-$n-$tag
    ip netns add "$name"
    namespaces+=("$name")
    ip -n "$switch" link add "p$n" type veth peer name leat0 netns "$name"
    ip -n "$switch" link set "p$n" master br0 up
    ip netns exec "$name" sysctl -qw net.ipv6.conf.leat0.disable_ipv6=1 2>/dev/null || true
    ip -n "$name" link set leat0 up
  done
fi

start_node() {
  local n=$1
  if [ $net = af_packet ]; then
    ip netns exec "leat-$n-$tag" "$leatd" --config "$work/node$n.yaml" >>"$work/node$n.log" 2>&1 &
  else
    "$leatd" --config "$work/node$n.yaml" >>"$work/node$n.log" 2>&1 &
  fi
  pids[n]=$!
}

# leader: the node that says it leads log 1
leader() {
  local n
  for n in 1 2 3; do
    if [ "${pids[n]}" -ne 0 ] && "$leat" status --socket "$work/node$n.sock" --json 2>/dev/null |
      python3 -c 'import json,sys; sys.exit(not any(l["log"] == 1 and l["role"] == "leader" for l in json.load(sys.stdin)["logs"]))' 2>/dev/null; then
      echo "$n"
      return 0
    fi
  done
  return 1
}
wait_leader() {
  local n
  for _ in $(seq 400); do
    if n=$(leader); then echo "$n"; return 0; fi
    sleep 0.05
  done
  return 1
}
# field NODE NAME: a number of log 1's status
field() {
  "$leat" status --socket "$work/node$1.sock" --json 2>/dev/null |
    python3 -c 'import json,sys; print(next(l for l in json.load(sys.stdin)["logs"] if l["log"] == 1)[sys.argv[1]])' "$2" 2>/dev/null || echo -1
}

step="starting three nodes"
for n in 1 2 3; do start_node $n; done
first=$(wait_leader) || fail "no leader within 20 s; see the nodes' last lines"
say "three nodes over $net, node $first leads; appending $lines lines, $bytes bytes, acknowledged $ack"

# The client sits on a follower's host: it goes on when the leader dies.
step="appending"
host=$((first % 3 + 1))
"$leat" append --socket "$work/node$host.sock" --ack "$ack" --timeout 30 "$file" >"$work/append.out" 2>"$work/append.err" &
client=$!
killed=false
while kill -0 $client 2>/dev/null; do
  at=$(field $host next_offset)
  [ ! -t 1 ] || printf '\r[%3ds] %s of %s lines\033[K' $((SECONDS - started)) "$at" "$lines"
  if ! $killed && [ "$at" -ge $((lines / 4)) ]; then
    [ ! -t 1 ] || printf '\r\033[K'
    kill -9 "${pids[first]}"
    wait "${pids[first]}" 2>/dev/null || true
    pids[first]=0
    killed=true
    say "killed the leader, node $first, at $at of $lines lines"
    step="appending after the leader's death"
    second=$(wait_leader) || fail "no new leader within 20 s"
    say "node $second leads"
    start_node "$first"
    say "started node $first again"
  fi
  sleep 0.02
done
[ ! -t 1 ] || printf '\r\033[K'
wait $client || { client=0; fail "append: $(tail -n 1 "$work/append.err")"; }
client=0
appended=$(tail -n 1 "$work/append.out")
if ! $killed; then
  say "the file was too short to kill the leader in mid-stream: killing it now"
  kill -9 "${pids[first]}"
  wait "${pids[first]}" 2>/dev/null || true
  pids[first]=0
  second=$(wait_leader) || fail "no new leader within 20 s"
  start_node "$first"
fi

step="waiting for every node to hold all"
want=$(field "$second" commit_durable)
for n in 1 2 3; do
  for _ in $(seq 600); do
    [ "$(field "$n" next_offset)" -ge "$lines" ] && [ "$(field "$n" durable)" -ge "$want" ] && break
    sleep 0.05
  done
done

step="reading back"
declare -a same
for n in 1 2 3; do
  "$leat" tail --socket "$work/node$n.sock" --from start --count "$lines" >"$work/back$n" 2>"$work/tail$n.err" ||
    fail "tail from node $n: $(tail -n 1 "$work/tail$n.err")"
  cmp -s "$file" "$work/back$n" || fail "node $n gave back other bytes: compare $file with leat tail --from start"
  same[n]=$(stat -c %s "$work/back$n")
  rm -f "$work/back$n"
  say "node $n gave back ${same[n]} bytes, all the same"
done

if $keep; then
  finished=true
  say "the cluster goes on running:"
  for n in 1 2 3; do echo "  node $n: process ${pids[n]}, log $work/node$n.log"; done
  echo "  $leat status --socket $work/node1.sock"
  echo "  echo hello | $leat append --socket $work/node1.sock -"
  echo "  $leat tail --socket $work/node2.sock --from end --follow"
  echo "to end it: kill ${pids[*]:1}; rm -rf $work /dev/shm/$(basename "$work")"
  exit 0
fi

step="stopping the nodes"
for n in 1 2 3; do kill "${pids[n]}"; done
for n in 1 2 3; do
  wait "${pids[n]}" || fail "node $n did not stop clean: $(tail -n 1 "$work/node$n.log")"
  pids[n]=0
done
step="comparing digests"
"$leat" verify --digest "$work/data1" "$work/data2" "$work/data3" >"$work/digests" 2>&1 ||
  fail "the replicas differ: $(tail -n 1 "$work/digests")"
digest=$(tail -n 1 "$work/digests")
say "digests are equal"

step="running logbench"
say "measuring for a few seconds"
"$logbench" append --local 3 --ack "$ack" --seconds 2 --directory /var/tmp --quiet >"$work/bench" 2>&1 ||
  fail "logbench: $(tail -n 1 "$work/bench")"

finished=true
echo
printf '%-28s %s\n' 'nodes, network' "3, $net"
printf '%-28s %s\n' 'appended' "$appended"
printf '%-28s %s\n' 'leader killed' "node $first; node $second went on"
for n in 1 2 3; do printf '%-28s %s\n' "read back from node $n" "${same[n]} bytes, identical"; done
printf '%-28s %s\n' 'digests' "$digest"
cat "$work/bench"
echo
say "done; nothing is left behind"
