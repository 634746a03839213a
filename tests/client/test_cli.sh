#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The leat tool against a fake node: what goes in comes out, exit codes as docs/cli.md says.
set -u
leat=$1
fake=$2
dir=$(mktemp -d)
failures=0

coproc node { exec "$fake"; }
node_pid=$!
read -r -t 10 LEAT_SOCKET <&"${node[0]}" || exit 1
export LEAT_SOCKET

cleanup() {
    exec {node[1]}>&-
    wait "$node_pid" 2>/dev/null || failures=$((failures + 1))
    rm -rf "$dir"
}

order() {
    local echoed
    echo "$1" >&"${node[1]}"
    read -r -t 10 echoed <&"${node[0]}"
}

# expect NAME CODE COMMAND...: stdout in $dir/out, stderr in $dir/err
expect() {
    local name=$1 code=$2 got
    shift 2
    timeout 20 "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ "$got" -ne "$code" ]; then
        echo "FAILED: $name: exit $got, expected $code: $(cat "$dir/err")"
        failures=$((failures + 1))
    fi
}

same() {
    if ! cmp -s "$2" "$3"; then
        echo "FAILED: $1: $2 and $3 differ"
        failures=$((failures + 1))
    fi
}

contains() {
    if ! grep -q -- "$2" "$3"; then
        echo "FAILED: $1: no '$2' in: $(head -c 300 "$3")"
        failures=$((failures + 1))
    fi
}

# Lines: an empty one, one without an end.
printf 'one\n\nthree\xff\nlast' >"$dir/lines"
expect "append lines" 0 "$leat" append "$dir/lines"
contains "final line" 'appended 4 records .* offsets 0 to 3' "$dir/err"
expect "tail" 0 "$leat" tail --from start
same "tail gives what was appended" "$dir/lines" "$dir/out"
expect "tail json" 0 "$leat" tail --json
contains "json" '"offset":0,"position":[0-9]*,"time_ns":[0-9]*,"data":"one\\n"}' "$dir/out"
contains "not text" '"data_base64":"dGhyZWX/Cg=="' "$dir/out"
expect "count" 0 "$leat" tail --from 1 --count 2
printf '\nthree\xff\n' >"$dir/expected"
same "two of the middle" "$dir/expected" "$dir/out"

# Length-prefixed there and back; a zero length is legal.
printf '\x03\0\0\0abc\0\0\0\0\x01\0\0\0z' >"$dir/prefixed"
expect "append prefixed" 0 "$leat" append --length-prefix "$dir/prefixed"
expect "tail prefixed" 0 "$leat" tail --from 4 --length-prefix
same "prefixed" "$dir/prefixed" "$dir/out"
head -c 5 "$dir/prefixed" >"$dir/cut"
expect "cut off" 1 "$leat" append --length-prefix "$dir/cut"
contains "cut off" 'ends inside record 0' "$dir/err"

# Raw, from stdin, over the segments' boundaries.
head -c 3000000 /dev/urandom >"$dir/random"
expect "append raw" 0 sh -c "\"$leat\" append --raw --size 10000 --quiet <\"$dir/random\""
expect "tail raw" 0 "$leat" tail --from 7
same "raw" "$dir/random" "$dir/out"
expect "empty input" 0 "$leat" append /dev/null
contains "empty input" 'appended 0 records' "$dir/err"
expect "a closed pipe" 0 bash -c "\"$leat\" tail | head -c 1 >/dev/null; exit \${PIPESTATUS[0]}"

# Refused, unknown, unreachable, wrong.
expect "too big" 1 "$leat" append --raw --size 70000 "$dir/random"
contains "too big" 'larger than the log' "$dir/err"
expect "level" 1 "$leat" append --ack replicated "$dir/lines"
expect "no log" 1 "$leat" append --log 7 "$dir/lines"
expect "no log" 1 "$leat" tail --log 7
order hold
expect "unknown" 4 "$leat" append --timeout 0.05 "$dir/lines"
contains "unknown" 'unknown' "$dir/err"
order "go on"
expect "unreachable" 3 "$leat" status --socket "$dir/nowhere"
expect "unreachable" 3 "$leat" append --socket "$dir/nowhere" "$dir/lines"
expect "unreachable" 3 "$leat" tail --socket "$dir/nowhere"
expect "no command" 2 "$leat"
expect "wrong command" 2 "$leat" sing
for command in append tail tail-position fence status 'session ls' counters transfer amnesia trim format \
    'log create' 'log ls' 'log info' 'log configure' 'log trim' 'log rm' inspect verify; do
    # shellcheck disable=SC2086 # a command is one word or two
    expect "$command --help" 0 "$leat" $command --help
    contains "$command --help" 'example' "$dir/out"
    contains "$command --help" '--json' "$dir/out"
    # shellcheck disable=SC2086
    expect "$command, wrong option" 2 "$leat" $command --sing
    contains "$command, wrong option" "--sing is not an option.* see leat .* --help" "$dir/err"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || { echo "FAILED: $command: not one line"; failures=$((failures + 1)); }
done
expect "log --help" 0 "$leat" log --help
expect "log sing" 2 "$leat" log sing
expect "log" 2 "$leat" log
expect "tail, wrong value" 2 "$leat" tail --from yesterday
expect "format, no file" 2 "$leat" format
expect "format, bad file" 2 "$leat" format --config "$dir/lines"
expect "trim, no position" 2 "$leat" trim 1
expect "trim, two ways" 2 "$leat" trim 1 --position 0 --keep-bytes 1MiB
expect "option of another command" 2 "$leat" trim 1 --position 0 --follow
for value in '--segment 3' '--segment -1MiB' '--segment 1MB' '--retention-age 5' '--retention-age forever'; do
    # shellcheck disable=SC2086
    expect "log create $value" 2 "$leat" log create x --yes $value
done
expect "a size" 2 "$leat" log create x --segment 1MB
contains "a size" "--segment: '1MB' is not a size like" "$dir/err"
expect "fence 0" 2 "$leat" fence 1 0
expect "batch 0" 2 "$leat" append --batch 0
expect "batch too large" 2 "$leat" append --batch=1025
expect "batch of pieces" 2 "$leat" append --raw --batch

# Logs, by name and number.
expect "log ls" 0 "$leat" log ls
contains "log ls" '^    2  other .*8MiB 10min$' "$dir/out"
expect "log ls --names" 0 "$leat" log ls --names
printf 'leat\ndefault\nother\n' >"$dir/expected"
same "names" "$dir/expected" "$dir/out"
expect "log ls --json" 0 "$leat" log ls --json
contains "log ls --json" '"log":1,"name":"default","segment":1048576,' "$dir/out"
expect "by name" 0 "$leat" append --log default --quiet /dev/null
expect "no such name" 1 "$leat" append --log orders --quiet "$dir/lines"
contains "no such name" "no log is named 'orders'" "$dir/err"
expect "rm without yes" 2 "$leat" log rm other
contains "rm without yes" "--yes confirms" "$dir/err"
expect "rm" 0 "$leat" log rm other --yes
expect "configure nothing" 2 "$leat" log configure other
expect "configure" 0 "$leat" log configure --log other --retention-bytes 1GiB
expect "create" 0 "$leat" log create fresh --segment 1MiB --timeout 1
expect "tail-position" 0 "$leat" tail-position default --json
contains "tail-position" '^{"log":1,"position":[0-9]*,"next_offset":[0-9]*}$' "$dir/out"

expect "status json" 0 "$leat" status --json
contains "status json" '^{"node":1,"control":{' "$dir/out"
expect "status" 0 "$leat" status
contains "status" '^node 1  ' "$dir/out"
expect "counters" 0 "$leat" counters --all
contains "counters" '^control.refused_user 0$' "$dir/out"
expect "counters" 0 "$leat" counters
expect "counters as json" 0 "$leat" counters --json
contains "counters as json" '"control.attached":0\|"control.accepted":[1-9]' "$dir/out"
expect "transfer as json" 0 "$leat" transfer default --to 2 --json
contains "transfer as json" '{"done":true,"text":"kind [0-9]* log 1 node 2' "$dir/out"
expect "transfer" 0 "$leat" transfer 1 --to 2
contains "transfer" 'kind [0-9]* log 1 node 2' "$dir/out"
expect "amnesia" 0 "$leat" amnesia accept 1
expect "trim" 0 "$leat" trim 1 --position 1048576
contains "trim" 'position 1048576' "$dir/out"

# Follow, and SIGINT's clean end.
"$leat" tail --from end --follow >"$dir/followed" 2>/dev/null &
tail_pid=$!
for _ in $(seq 100); do # nothing says when it has looked where the end is: what comes later it shows
    printf 'live\n' | "$leat" append --quiet
    [ -s "$dir/followed" ] && break
    sleep 0.05
done
contains "follow" '^live$' "$dir/followed"
kill -INT "$tail_pid"
wait "$tail_pid"
code=$?
[ "$code" -eq 0 ] || { echo "FAILED: SIGINT: exit $code"; failures=$((failures + 1)); }

cleanup
[ "$failures" -eq 0 ]
