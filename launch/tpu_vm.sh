#!/usr/bin/env bash
# One run on all workers of a Cloud TPU slice, over ssh; jax finds the workers by itself.
#
#   TPU=my-slice ZONE=us-west4-a launch/tpu_vm.sh --config configs/videomae_rwf.py --workdir /mnt/nfs/runs/rwf
#   TPU=my-slice ZONE=us-west4-a STEP=setup launch/tpu_vm.sh     once: this checkout to every worker, and pip install
#   TPU=my-slice ZONE=us-west4-a STEP=stop  launch/tpu_vm.sh     save on all workers and end
#
# --workdir must lie on a file system that all workers mount. A slice that was preempted is gone: create it again
# (a queued resource does that by itself), STEP=setup, and the same command goes on from the last checkpoint.
set -euo pipefail

TPU=${TPU:?the name of the TPU slice}
ZONE=${ZONE:?its zone, such as us-west4-a}
PROJECT=${PROJECT:-$(gcloud config get-value project 2>/dev/null)}
FOLDER=${FOLDER:-jaxvid}     # of the code, in the home folder of each worker
PYTHON=${PYTHON:-python3.12} # of the workers, 3.11 or newer; where it is missing, STEP=setup fetches it with uv
STEP=${STEP:-run}

# What each worker does for STEP=setup; its words are FOLDER and PYTHON. Usual images of TPU VMs have Python 3.10.
# shellcheck disable=SC2016  # for the worker's shell
INSTALL='set -e
mkdir -p "$1" && tar xzf jaxvid.tar.gz -C "$1" && cd "$1"
"$2" -m venv .venv >/dev/null 2>&1 || {
    echo "$(hostname): no $2 with venv here, uv fetches it" >&2
    python3 -m pip install -q --user uv && python3 -m uv venv --clear --seed --python "$2" .venv
} || {
    echo "$(hostname): could not fetch $2; install it with venv on all workers, or name another: PYTHON=…" >&2
    exit 1
}
.venv/bin/python -m pip install -q -e ".[tpu]"'

on_all() { # a command line for the shell of every worker
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --project="$PROJECT" --worker=all --command="$1"
}

case $STEP in
setup)
    root=$(cd "$(dirname "$0")/.." && pwd)
    if ! git -C "$root" cat-file -e HEAD:./pyproject.toml 2>/dev/null; then
        echo "tpu_vm.sh: STEP=setup sends the last commit, and $root has none: git clone jaxvid and start it there," \
            "or make this folder a checkout (git init && git add . && git commit -m jaxvid)" >&2
        exit 2
    fi
    changes=$(git -C "$root" status --short .)
    [[ -z $changes ]] || printf 'tpu_vm.sh: not committed, so the workers do not get it:\n%s\n' "$changes" >&2
    code=$(mktemp -d)/jaxvid.tar.gz
    git -C "$root" archive --format=tar.gz --output="$code" HEAD
    gcloud compute tpus tpu-vm scp "$code" "$TPU:jaxvid.tar.gz" --zone="$ZONE" --project="$PROJECT" --worker=all
    on_all "bash -c$(printf ' %q' "$INSTALL" setup "$FOLDER" "$PYTHON")"
    ;;
stop)
    # One worker is enough: jax tells the others, and all save at the same step.
    # shellcheck disable=SC2016  # the number stands in a file of the worker
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --project="$PROJECT" --worker=0 \
        --command='kill -TERM $(cat jaxvid.pid)'
    ;;
run)
    # The arguments travel through another shell: %q keeps blanks, brackets and quotes in them.
    set -- .venv/bin/python -m jaxvid.main "$@"
    on_all "cd $FOLDER && echo \$\$ > ~/jaxvid.pid && exec$(printf ' %q' "$@")"
    ;;
*)
    echo "tpu_vm.sh: STEP=$STEP, expected run, setup or stop" >&2
    exit 2
    ;;
esac
