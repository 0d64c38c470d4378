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
FOLDER=${FOLDER:-jaxvid} # of the code, in the home folder of each worker
STEP=${STEP:-run}

on_all() { # a command line for the shell of every worker
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --project="$PROJECT" --worker=all --command="$1"
}

case $STEP in
setup)
    code=$(mktemp -d)/jaxvid.tar.gz
    git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$code" HEAD
    gcloud compute tpus tpu-vm scp "$code" "$TPU:jaxvid.tar.gz" --zone="$ZONE" --project="$PROJECT" --worker=all
    on_all "mkdir -p $FOLDER && tar xzf jaxvid.tar.gz -C $FOLDER && python3 -m venv $FOLDER/.venv && $FOLDER/.venv/bin/pip install -q -e '${FOLDER}[tpu]'"
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
