#!/bin/bash
# Two nodes of four GPUs, one process for each GPU: sbatch slurm.sh
#SBATCH --job-name=darcy
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# No --gpus-per-task: JAX expects to see all GPUs of the node and takes one for each process by its local number.
# With one process for all GPUs of a node, set --ntasks-per-node=1 and JAX_LOCAL_DEVICE_IDS=0,1,2,3.
OUT=runs/darcy-fno
srun --kill-on-bad-exit=1 sciml train darcy --preset paper-rough --model fno --out "$OUT"
# 120 s before the time is over all processes save and exit with 0; without results the job goes on in another turn.
[ -f "$OUT/metrics.json" ] || scontrol requeue "$SLURM_JOB_ID"
