#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three nodes on this host replicate and persist a real file, survive the death of their leader, and
# give the file back byte for byte. As any user; nothing is left behind.
#
# usage: tools/demo.sh [FILE] [--net memif|af_packet] [--ack durable|replicated] [--keep]
#   FILE        every line of it, newline and all, becomes a record (default: a text of at least 10 MB
#               assembled from the system's own documents)
#   --net       memif: shared memory. af_packet: virtual cables between network namespaces [memif]
#   --ack       when an append counts: on disk on a majority, or in memory on one [durable]
#   --keep      leaves the cluster running and says how to use and how to end it
# Environment: LEAT_BUILD, a build to use or to make; LEAT_DEMO_DIR, where the nodes' files go: a disk
# with about 1 GB of room [/var/tmp].
# Exit code 0: every byte was found on every node.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
refuse() {
  printf 'demo.sh: %s\n' "$1" >&2
  exit 2
}
file='' net=memif ack=durable keep=false
while [ $# -gt 0 ]; do
  case $1 in
    --net | --ack)
      [ $# -gt 1 ] || refuse "$1 needs a value; see tools/demo.sh --help"
      case $1 in --net) net=$2 ;; --ack) ack=$2 ;; esac
      shift
      ;;
    --keep) keep=true ;;
    -h | --help)
      sed -n '6,14s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -?*) refuse "unknown option $1; see tools/demo.sh --help" ;;
    *)
      [ -z "$file" ] || refuse "one FILE at most; see tools/demo.sh --help"
      [ -n "$1" ] || refuse "FILE has no name; see tools/demo.sh --help"
      file=$1
      ;;
  esac
  shift
done
case $net in memif | af_packet) ;; *) refuse "--net takes memif or af_packet" ;; esac
case $ack in durable | replicated) ;; *) refuse "--ack takes durable or replicated" ;; esac
if [ -n "$file" ]; then
  [ -e "$file" ] || refuse "$file: no such file"
  [ -f "$file" ] || refuse "$file: not a regular file"
  [ -r "$file" ] || refuse "$file: cannot be read by this user"
  [ -s "$file" ] || refuse "$file is empty: name a FILE with at least one line"
  file=$(realpath "$file")
fi

started=${LEAT_DEMO_STARTED:-$EPOCHSECONDS}
place=${LEAT_DEMO_DIR:-/var/tmp}
work=${LEAT_DEMO_WORK:-} pids=(0 0 0 0) job=0 made_build='' step='starting' said=false kept=false

say() { printf '[%3ds] %s\n' $((EPOCHSECONDS - started)) "$*"; }
fail() {
  said=true
  printf 'demo.sh: %s\n' "$1" >&2
  exit 1
}
last_line() { grep -v '^$' "$1" 2>/dev/null | tail -n 1 | tr -d '\r' || true; }

# Nothing stays behind: processes by their ids, the arenas in memory, the directory. The namespaces of
# af_packet are anonymous and end with the processes in them.
clean_up() {
  local code=$? n pid tell
  trap - EXIT
  trap '' INT TERM HUP
  set +e # what has ended by itself meanwhile is no reason to leave the rest behind
  if $kept; then exit "$code"; fi
  exec {tell}>&2 2>/dev/null # bash reports each job that it kills
  for pid in $(jobs -p); do # also one that a signal kept from being written down
    if [ "$(cat "/proc/$pid/comm")" = logbench ]; then # it has nodes of its own to stop
      kill "$pid"
      for ((n = 0; n < 200; n++)); do kill -0 "$pid" && sleep 0.05 || break; done
    fi
    kill -9 "$pid" || true
  done
  wait || true
  if [ -n "$work" ]; then rm -rf "$work" "/dev/shm/${work##*/}"; fi
  if [ -n "$made_build" ]; then rm -rf "$made_build"; fi
  if [ "$code" -ne 0 ] && ! $said; then
    case $code in
      129 | 130 | 143) echo "demo.sh: interrupted while $step; nothing is left behind" >&"$tell" ;;
      *) echo "demo.sh: failed while $step; run bash -x tools/demo.sh to see where" >&"$tell" ;;
    esac
  fi
  exit "$code"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# run OUT ERR COMMAND...: in the background and waited for, so that a signal is heard at once
run() {
  local code=0 out=$1 err=$2
  shift 2
  "$@" >"$out" 2>"$err" &
  job=$!
  wait $job || code=$?
  job=0
  return $code
}

# ---- what is needed: packages, a build, room; once, before any namespace ----

prepare() {
  step='installing what is missing'
  "$root/tools/deps.sh" || { said=true; exit 1; } # it said what to do

  step='making a directory'
  work=$(mktemp -d "$place/leat-demo-XXXXXX" 2>/dev/null) ||
    fail "no directory can be made in $place: name another in LEAT_DEMO_DIR"

  step='building'
  build=${LEAT_BUILD:-$root/build}
  local ready=true program
  for program in tools/leatd tools/leat bench/logbench; do [ -x "$build/$program" ] || ready=false; done
  if $ready && { [ -n "${LEAT_BUILD:-}" ] || [ ! -w "$build" ]; }; then return 0; fi
  if ! $ready && [ ! -w "$build" ] && { [ -e "$build" ] || ! mkdir -p "$build" 2>/dev/null; }; then
    [ -z "${LEAT_BUILD:-}" ] || fail "$build holds no build and cannot be written: name another in LEAT_BUILD"
    build=$work-build
    made_build=$build
  fi
  $ready || say "building in $build"
  if [ ! -f "$build/build.ninja" ]; then
    run "$work/build.log" /dev/null meson setup "$build" "$root" ||
      fail "configuring failed ($(last_line "$work/build.log")): run meson setup $build $root"
  fi
  run "$work/build.log" /dev/null ninja -C "$build" tools/leatd tools/leat bench/logbench ||
    fail "building failed: run ninja -C $build to see why"
  rm -f "$work/build.log"
}

if [ -z "$work" ]; then
  prepare
else
  build=$LEAT_DEMO_BUILD made_build=${LEAT_DEMO_MADE_BUILD:-}
fi
leat=$build/tools/leat leatd=$build/tools/leatd logbench=$build/bench/logbench

# af_packet: this script goes on in a network of its own (and as an unprivileged user in a user
# namespace of its own), where it may make a bridge, cables and one network per node. No address is
# given to a kernel; nothing outlives the processes.
if [ $net = af_packet ] && [ -z "${LEAT_DEMO_WORK:-}" ]; then
  step='making network namespaces'
  own=(unshare --mount --net)
  [ "$(id -u)" -eq 0 ] || own+=(--user --map-root-user)
  "${own[@]}" true 2>/dev/null ||
    fail "this user may make no network namespaces here: run it as root, or with --net memif"
  arguments=(--net "$net" --ack "$ack")
  $keep && arguments+=(--keep)
  export LEAT_DEMO_WORK=$work LEAT_DEMO_BUILD=$build LEAT_DEMO_MADE_BUILD=$made_build LEAT_DEMO_STARTED=$started
  exec "${own[@]}" "$root/tools/demo.sh" ${file:+"$file"} "${arguments[@]}"
fi

if [ -z "$file" ]; then
  step='assembling a text'
  say "assembling a text of at least 10 MB from this system's documents"
  file=$work/text
  { find -L /usr/share/common-licenses /usr/share/doc /usr/share/perl /usr/share/perl5 /usr/share/vim \
    -type f -readable -not -name '*.gz' -size -4096k -print0 2>/dev/null | LC_ALL=C sort -z |
    xargs -0 cat 2>/dev/null || true; } | head -c 12000000 >"$file" || true
  [ -s "$file" ] || fail "no documents in /usr/share/doc: name a FILE"
  while [ "$(stat -c %s "$file")" -lt 10000000 ]; do
    head -c 2000000 "$file" >"$work/more" && cat "$work/more" >>"$file"
  done
  rm -f "$work/more"
fi
step='looking at the text'
bytes=$(stat -c %s "$file")
lines=$(wc -l <"$file")
[ "$(tail -c 1 "$file" | od -An -tx1)" = ' 0a' ] || lines=$((lines + 1)) # the last lacks its newline
room=$(df -Pk "$work" | awk 'END { print int($4 / 1024) }')
need=$((bytes / 1000000 * 4 + lines * 150 / 1000000 + 600))
[ "$room" -ge "$need" ] ||
  fail "$place has $room MB left and this takes $need: free some, or name another disk in LEAT_DEMO_DIR"

step='configuring three nodes'
cluster=$(cat /proc/sys/kernel/random/uuid)
for n in 1 2 3; do
  {
    echo "cluster: $cluster"
    echo "node: $n"
    echo 'nodes:'
    for m in 1 2 3; do echo "  - {id: $m, ip: 10.77.0.$m}"; done
    echo "socket: node$n.sock"
    if [ $net = memif ]; then echo 'net: {kind: memif, memif_dir: memif}'
    else echo 'net: {kind: af_packet, interface: leat0}'; fi
    echo "storage: {data_dir: data$n}"
    echo "memory: {arena_dir: /dev/shm/${work##*/}}"
    echo 'default_log: {replicated: true}'
  } >"$work/node$n.yaml"
  "$leat" format --config "$work/node$n.yaml" >"$work/node$n.log" 2>&1 ||
    fail "$(last_line "$work/node$n.log") (LEAT_DEMO_DIR names another directory)"
done

# One network per node, joined by a bridge in this script's own.
if [ $net = af_packet ]; then
  step='making network namespaces'
  {
    mount -t tmpfs leat-demo /run # for ip netns; in this mount namespace only
    ip link add br0 type bridge
    ip link set br0 addrgenmode none
    ip link set br0 up
    for n in 1 2 3; do
      ip netns add "node$n"
      ip link add "cable$n" type veth peer name leat0 netns "node$n"
      ip link set "cable$n" addrgenmode none
      ip link set "cable$n" master br0 up
      ip -n "node$n" link set leat0 addrgenmode none
      ip -n "node$n" link set leat0 up
    done
  } 2>"$work/net.err" ||
    fail "no bridge of network namespaces here ($(last_line "$work/net.err")): use --net memif"
fi

start_node() {
  local n=$1 enter=()
  [ $net = memif ] || enter=(ip netns exec "node$n")
  "${enter[@]}" "$leatd" --config "$work/node$n.yaml" >>"$work/node$n.log" 2>&1 &
  pids[n]=$!
}

# ask NODE: what it says of log 1, or nothing
ask() {
  local json
  json=$("$leat" status --socket "$work/node$1.sock" --json 2>/dev/null) || return 1
  printf '%s' "${json#*\"log\":1,}"
}
# role NODE: of log 1; nothing while it cannot say
role() {
  local json
  json=$(ask "$1") || return 0
  json=${json#*\"role\":\"}
  echo "${json%%\"*}"
}
# field NODE NAME: a number of log 1's status; -1 while it cannot say
field() {
  local json
  json=$(ask "$1") || { echo -1; return; }
  json=${json#*\"$2\":}
  echo "${json%%[!0-9]*}"
}
# wait_leader: sets `leader`
wait_leader() {
  local n i
  for ((i = 0; i < 1000; i++)); do
    for n in 1 2 3; do
      [ "${pids[n]}" -ne 0 ] || continue
      kill -0 "${pids[n]}" 2>/dev/null || fail "node $n ended: $(last_line "$work/node$n.log")"
      if [ "$(role "$n")" = leader ]; then
        leader=$n
        return
      fi
    done
    sleep 0.02
  done
  fail "no leader within 20 s; node 1 said last: $(last_line "$work/node1.log")"
}
stop_hard() {
  kill -9 "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || true
  pids[$1]=0
}

step='starting three nodes'
for n in 1 2 3; do start_node $n; done
wait_leader
first=$leader
say "three nodes over $net, node $first leads; appending $lines lines, $bytes bytes, acknowledged $ack"

# The client sits on a follower's host and goes on when the leader dies. The text comes to it as a
# stream of 2 s at least, so that there is a middle to kill the leader in.
step='appending'
host=$((first % 3 + 1))
cat >"$work/stream.py" <<'PYTHON'
import sys, time
size, pieces = int(sys.argv[2]), 100
with open(sys.argv[1], "rb") as text:
    for number in range(1, pieces + 1):
        sys.stdout.buffer.write(text.read(size * number // pieces - size * (number - 1) // pieces))
        sys.stdout.buffer.flush()
        time.sleep(2 / pieces)
PYTHON
append() {
  exec "$leat" append --socket "$work/node$host.sock" --ack "$ack" --timeout 30 - \
    < <(exec python3 "$work/stream.py" "$file" "$bytes" 2>/dev/null) 2>"$work/append.err"
}
append &
job=$!
second=0 took=''
while kill -0 $job 2>/dev/null; do
  at=$(field $host next_offset)
  [ ! -t 1 ] || printf '\r[%3ds] %s of %s lines\033[K' $((EPOCHSECONDS - started)) "$at" "$lines"
  if [ $second -eq 0 ] && [ "$at" -ge $((lines / 3)) ]; then
    [ ! -t 1 ] || printf '\r\033[K'
    stop_hard "$first"
    killed=${EPOCHREALTIME/[.,]/}
    say "killed the leader, node $first, at $at of $lines lines"
    step='waiting for a new leader'
    wait_leader
    second=$leader took=$(((${EPOCHREALTIME/[.,]/} - killed) / 1000))
    say "node $second leads after $took ms"
    start_node "$first"
    say "started node $first again"
    step='appending after the death of the leader'
  fi
  sleep 0.02
done
[ ! -t 1 ] || printf '\r\033[K'
code=0
wait $job || code=$?
job=0
appended=$(grep '^appended' "$work/append.err" || true)
if [ $code -ne 0 ]; then
  why=$(sed -n 's/^leat: //p' "$work/append.err" | tail -n 1)
  case $why in
    *'largest entry'*) fail "$file has a line over 1 MiB, which is the limit here: take one of shorter lines" ;;
    *) fail "appending ended with $code (${why:-$appended}): run it again when the machine is less busy, or report this" ;;
  esac
fi
[ $second -ne 0 ] || fail "the client ended before the leader could be killed: report this"

step='waiting for every node to hold all'
want=$(field $second commit_durable)
for n in 1 2 3; do
  for ((i = 0; i < 1500; i++)); do
    [ "$(field $n next_offset)" -ge "$lines" ] && [ "$(field $n durable)" -ge "$want" ] && break
    sleep 0.02
  done
  [ "$i" -lt 1500 ] || fail "node $n does not hold all after 30 s; it said last: $(last_line "$work/node$n.log")"
done

step='reading back'
for n in 1 2 3; do
  "$leat" tail --socket "$work/node$n.sock" --from start 2>"$work/tail.err" | cmp -s - "$file" ||
    fail "node $n gave back other bytes than it got ($(last_line "$work/tail.err")): run again with --keep and report this"
  say "node $n gave back $bytes bytes, all the same"
done

if $keep; then
  kept=true
  say "the cluster goes on running, node $second leads:"
  for n in 1 2 3; do echo "  node $n: process ${pids[n]}, log $work/node$n.log"; done
  echo "  $leat status --socket $work/node1.sock"
  echo "  echo hello | $leat append --socket $work/node1.sock"
  echo "  $leat tail --socket $work/node2.sock --from end --follow"
  echo "to end it and leave nothing:"
  echo "  kill -9 ${pids[*]:1}; rm -rf $work /dev/shm/${work##*/}${made_build:+ $made_build}"
  exit 0
fi

step='stopping the nodes'
for n in 1 2 3; do kill "${pids[n]}"; done
for n in 1 2 3; do
  wait "${pids[n]}" || fail "node $n did not stop clean: $(last_line "$work/node$n.log")"
  pids[n]=0
done
step='comparing digests'
"$leat" verify --digest "$work/data1" "$work/data2" "$work/data3" >"$work/digests" 2>&1 ||
  fail "the replicas differ: $(last_line "$work/digests")"
digest=$(last_line "$work/digests")
digest=${digest#*: }

step='running logbench'
say 'the digests of the replicas are equal; measuring for a few seconds'
run "$work/bench" "$work/bench.err" \
  "$logbench" append --local 3 --ack "$ack" --seconds 2 --directory "$place" --quiet ||
  fail "$(last_line "$work/bench.err"): the machine may be too busy, run again"

row() { printf '  %-24s %s\n' "$1" "$2"; }
echo
row 'nodes, network' "3, $net"
row 'acknowledged when' "$([ $ack = durable ] && echo 'on disk on a majority' || echo 'in memory on a majority')"
row 'appended' "$bytes bytes, ${appended#appended }"
row 'leader killed' "node $first, with SIGKILL; node $second led after $took ms"
for n in 1 2 3; do row "read back from node $n" "$bytes bytes, identical"; done
row 'equal replicas' "$digest"
echo
cat "$work/bench"
echo
say 'done; nothing is left behind'
