#!/bin/sh
# Start Ray on the nodes of a SLURM allocation and fan stale stages out over them.
#
#     sbatch --nodes 4 --gpus-per-node 8 tools/slurm.sh 'train@*'
#
# The repository lies in a folder that all nodes see. Submit it again after a time limit: trainings
# resume, and what is finished is not repeated.
#SBATCH --job-name=patchscale
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@300
set -eu
cd "${SLURM_SUBMIT_DIR:?submit it with sbatch}"
PATH="$PWD/.venv/bin:$PATH"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token # in ~/.ray, which the nodes share: other users of the network stay out
ray get-auth-token --generate >/dev/null

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --block &
sleep 15
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
        ray start --address="$head:$port" --block &
    sleep 15
fi

# in the background, so that SLURM's TERM, five minutes before the end, is handed on
RAY_ADDRESS="$head:$port" python -m patchscale.fanout --engine ray "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
if [ "$code" -gt 128 ]; then # the trap cut the first wait short
    code=0
    wait "$driver" || code=$?
fi
ray stop >/dev/null 2>&1 || true
exit "$code"
