#!/bin/bash
# Four processes for each host of a hostfile: ./open_mpi.sh hosts.txt. Process 0 runs on the host where this is started.
# Open MPI 4 needs no address. JAX 0.10 does not recognise Open MPI 5, which this address makes up for.
export JAX_COORDINATOR_ADDRESS="${JAX_COORDINATOR_ADDRESS:-$(hostname -f):51234}"
mpirun --hostfile "$1" --map-by ppr:4:node -x JAX_COORDINATOR_ADDRESS -x PATH \
    sciml train darcy --preset paper-rough --model fno --out runs/darcy-fno
