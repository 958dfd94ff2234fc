#!/usr/bin/env bash
# Rehearses the Dockerfile where there is no Docker: its steps one by one, in folders made by debootstrap, then its
# CMD, its HEALTHCHECK and its STOPSIGNAL. Needs root, debootstrap and port 8080.
# Usage: rehearse-dockerfile.sh FOLDER [SUITE]; FOLDER/SUITE.base is made once and used again.
. "$(dirname "$0")/lib.sh"
own_mounts "$@"
folder=${1:?a folder to work in} suite=${2:-bookworm}
stages=$folder/stages workdir=/ user=root launch='' base=$folder/$suite.base
declare -A values=([SUITE]=$suite) environment=()

enter() { # USER COMMAND...: as a container would
  local pairs=() name
  for name in "${!environment[@]}"; do pairs+=("$name=${environment[$name]}"); done
  $launch chroot --userspec="$1" "$stage" /usr/bin/env -i -C "$workdir" HOME=/root "${pairs[@]}" "${lent_rust[@]}" \
    "${@:2}"
}

from() { # IMAGE [AS NAME]; rust's image is Debian with the toolchain that this machine has
  stage=$stages/${3:-last} workdir=/ environment=()
  mkdir -p "$stages"
  debian "$suite" "$base" "$stage"
  [[ $1 != rust:* ]] || lend_rust "$stage"
}

copy() { # [--from=STAGE] SOURCE... DESTINATION; a directory's contents, as Docker has it
  local source=$root destination=${*: -1} each
  if [[ $1 == --from=* ]]; then source=$stages/${1#--from=} && shift; fi
  [[ $destination == /* ]] || destination=$workdir/$destination
  [[ $destination != */ ]] || mkdir -p "$stage$destination"
  for each in "${@:1:$#-1}"; do
    if [ "$each" = . ]; then
      git -C "$root" ls-files -coz --exclude-standard | tar -C "$root" --null --ignore-failed-read -T - -c | tar -C "$stage$destination" -x
    elif [ -d "$source/$each" ]; then
      mkdir -p "$stage$destination" && cp -a "$source/$each/." "$stage$destination/"
    else
      cp -a "$source/$each" "$stage$destination"
    fi
  done
}

instruction() { # NAME REST
  local rest=$2
  for each in "${!values[@]}"; do rest=${rest//\$\{$each\}/${values[$each]}}; done
  case $1 in
    FROM) eval "from $rest" ;;
    COPY) eval "copy $rest" ;;
    RUN) enter root sh -c "$rest" ;;
    ENV) for each in $rest; do environment[${each%%=*}]=${each#*=}; done ;;
    WORKDIR) workdir=$rest && mkdir -p "$stage$rest" ;;
    USER) user=$rest ;;
    STOPSIGNAL) stopsignal=$rest ;;
    HEALTHCHECK) healthcheck=${rest#*CMD } ;;
    CMD) command=$rest ;;
    ARG | EXPOSE) ;;
    *) fail "$1: an instruction that this rehearsal does not know" ;;
  esac
}

words() { "$PYTHON" -c 'import json, sys; print("\0".join(json.loads(sys.argv[1])), end="\0")' "$1"; } # of a JSON list

rm -rf --one-file-system "$stages"
while read -r name rest; do
  say "$name $rest"
  instruction "$name" "$rest"
done < <(sed -e '/^#/d' -e '/^$/d' "$root/Dockerfile" | sed -e ':again' -e '/\\$/{N;s/\\\n */ /;b again' -e '}')

mapfile -d '' -t command < <(words "$command")
mapfile -d '' -t healthcheck < <(words "$healthcheck")
say "running ${command[*]}"
# Docker gives a container pipes that belong to its user.
(
  launch=exec
  chown "$(chroot "$stage" id -u "$user")" /proc/self/fd/1 /proc/self/fd/2
  enter "$user" "${command[@]}"
) > >(cat >&2) 2> >(cat >&2) &
pid=$!
for _ in $(seq 50); do enter "$user" "${healthcheck[@]}" 2>/dev/null && break; sleep 0.2; done
enter "$user" "${healthcheck[@]}" || { kill "$pid"; fail "the health check fails"; }
ps -o user,args --ppid "$pid" -p "$pid" >&2
kill -s "$stopsignal" "$pid"
wait "$pid" || fail "nginx ended with $?"
say "the container builds, is healthy and stops on $stopsignal"
