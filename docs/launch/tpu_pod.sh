#!/bin/bash
# The same command on all hosts of a TPU pod slice: ./tpu_pod.sh NAME ZONE
# JAX knows the other hosts. The bucket is mounted on each of them, for example by gcsfuse.
gcloud compute tpus tpu-vm ssh "$1" --zone="$2" --worker=all \
    --command="sciml train darcy --preset paper-rough --model fno --out /shared/runs/darcy-fno"
