#!/bin/sh
# Start Ray on the nodes of a SLURM allocation and fan stale stages out over them.
#
#     sbatch --nodes 4 --gpus-per-node 8 tools/slurm.sh 'train@*'
#
# The repository must lie in a folder that all nodes see. After a time limit submit the script again:
# trainings resume, and finished stages are not repeated.
#SBATCH --job-name=patchscale
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@300
set -eu
cd "${SLURM_SUBMIT_DIR:?submit it with sbatch}"
PATH="$PWD/.venv/bin:$PATH"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_AUTH_MODE=token # the token in ~/.ray, which the nodes share, keeps other users out
ray get-auth-token --generate >/dev/null

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --block &
sleep 15
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
        ray start --address="$head:$port" --block &
    sleep 15
fi

# in the background, so that the trap can pass on the TERM that SLURM sends 5 minutes before the end
RAY_ADDRESS="$head:$port" python -m patchscale.fanout --engine ray "$@" &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
if [ "$code" -gt 128 ]; then # the trap interrupted the first wait
    code=0
    wait "$driver" || code=$?
fi
ray stop >/dev/null 2>&1 || true
exit "$code"
