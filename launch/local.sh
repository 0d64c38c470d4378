#!/usr/bin/env bash
# One run over several processes of this machine; all of them end when one does.
#
#   launch/local.sh --config configs/videomae_rwf.py --workdir runs/rwf
#   PROCESSES=4 launch/local.sh …
#
# Without this script, `python -m jaxvid.main …` uses all GPUs of a machine from one process already: several
# processes try out what a cluster does, or divide the host's work (decoding) among more interpreters.
set -uo pipefail

PROCESSES=${PROCESSES:-2}
GPUS_EACH=${GPUS_EACH:-0}           # GPUs of each process, in order; 0: leave the devices alone
GRACE_SECONDS=${GRACE_SECONDS:-60}  # for the others, once one has ended with an error
PYTHON=${PYTHON:-python}

port=${PORT:-$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$PROCESSES

run() { # process number, arguments of jaxvid.main
    export JAX_PROCESS_ID=$1
    if ((GPUS_EACH)); then
        CUDA_VISIBLE_DEVICES=$(seq -s, $(($1 * GPUS_EACH)) $((($1 + 1) * GPUS_EACH - 1)))
        export CUDA_VISIBLE_DEVICES
    fi
    shift
    exec "$PYTHON" -m jaxvid.main "$@"
}

children=()
tell() { # signal: to all that are still there
    for child in "${children[@]}"; do kill -s "$1" "$child" 2>/dev/null; done
}
# One word to one process is enough: jax tells the others, and all save at the same step.
trap 'kill -s TERM "${children[0]-}" 2>/dev/null' TERM INT
trap 'tell KILL' EXIT

for ((i = 0; i < PROCESSES; i++)); do
    run "$i" "$@" &
    children+=($!)
done

result=0
deadline=
while :; do
    alive=()
    for child in "${children[@]}"; do
        if kill -0 "$child" 2>/dev/null; then
            alive+=("$child")
        else
            wait "$child"
            code=$?
            ((result || code == 0)) || result=$code deadline=$((SECONDS + GRACE_SECONDS))
        fi
    done
    children=("${alive[@]+"${alive[@]}"}")
    ((${#children[@]})) || break
    if [[ -n $deadline ]] && ((SECONDS > deadline)); then
        echo "launch/local.sh: the others go on though one process ended with $result: killed" >&2
        tell KILL
    fi
    sleep 0.2
done
exit "$result"
