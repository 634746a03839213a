# SPDX-License-Identifier: Apache-2.0
# bash completion of leat: commands, options, and the logs of the node that --socket, --config or
# $LEAT_SOCKET names.
_leat_logs() { # _leat_logs WORD...: names of the logs, of the node that the words name
  local options=() i
  for ((i = 1; i < $#; i++)); do
    case ${!i} in
      --socket | --config) local next=$((i + 1)); options=("${!i}" "${!next}") ;;
    esac
  done
  timeout 2 "${1:-leat}" log ls --names "${options[@]}" 2>/dev/null
}

_leat() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]-} place=2
  local common='--socket --config --json --help' options='' logs=false
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W 'append tail tail-position fence log status session counters transfer
      amnesia damage format inspect verify --help --version' -- "$word")
    return
  fi
  if [ "$command" = log ] || [ "$command" = session ]; then
    if [ "$COMP_CWORD" -eq 2 ]; then
      local words=ls
      [ "$command" = session ] || words='create ls info configure trim rm'
      mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
      return
    fi
    command="$command ${COMP_WORDS[2]}" place=3
  fi
  case $command in
    append) options='--log --ack --lines --length-prefix --raw --size --batch --if-offset --writer-epoch --timeout
      --in-flight --quiet' ;;
    tail) options='--log --from --count --follow --level --raw --length-prefix' ;;
    tail-position) options=--level logs=true ;;
    fence) options=--timeout logs=true ;;
    'log create') options='--segment --arena --largest-entry --replicated --retention-bytes --retention-age --timeout' ;;
    'log ls') options=--names ;;
    'log info') logs=true ;;
    'log configure') options='--retention-bytes --retention-age' logs=true ;;
    'log trim') options='--position --offset --keep-bytes' logs=true ;;
    'log rm') options=--yes logs=true ;;
    status) options='--log --watch' ;;
    'session ls') options=--log logs=true ;;
    counters) options=--all ;;
    transfer) options=--to logs=true ;;
    amnesia | damage) place=3 logs=true ;;
    format) options=--config common='--json --help' ;;
    inspect) options='--identity --votes --journal --segments --frames' common='--json --help' ;;
    verify) options='--log --digest --begin --end' common='--json --help' ;;
  esac
  case $previous in
    --log) mapfile -t COMPREPLY < <(compgen -W "$(_leat_logs "${COMP_WORDS[@]}")" -- "$word"); return ;;
    --ack | --level) mapfile -t COMPREPLY < <(compgen -W 'durable replicated' -- "$word"); return ;;
    --from) mapfile -t COMPREPLY < <(compgen -W 'start end time:-10min' -- "$word"); return ;;
    --socket | --config) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$word")
  elif [[ $command = amnesia || $command = damage ]] && [ "$COMP_CWORD" -eq 2 ]; then
    mapfile -t COMPREPLY < <(compgen -W accept -- "$word")
  elif $logs && [ "$COMP_CWORD" -eq "$place" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_leat_logs "${COMP_WORDS[@]}")" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _leat leat
