#!/usr/bin/env bash
# One worker per task of an array job, on a folder that all nodes share:
#   sbatch --array=1-16 --export=ALL,DATASET=web,BACKBONES="vit_b32.openai rn50.openai" deploy/slurm.sh
# A task that was requeued or ran out of time goes on after its last finished part; iaa status -d web says how far all are.
#SBATCH --job-name=iaa-embed
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=iaa-embed-%A-%a.log
set -euo pipefail

: "${DATASET:?name the data set: sbatch --export=ALL,DATASET=NAME ...}"
: "${SLURM_ARRAY_TASK_ID:?start it as an array: sbatch --array=1-N ...}"
export IAA_DATA=${IAA_DATA:-$PWD/data} IAA_LOG_FORMAT=json

backbones=()
for name in ${BACKBONES:-vit_b32.openai}; do
  backbones+=(--backbone "$name")
done
mkdir -p "$IAA_DATA/metrics"

# The array has to begin at 1 and have no gaps: worker I of N makes parts I, I+N, I+2N, ...
exec iaa embed --dataset "$DATASET" "${backbones[@]}" --worker "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
  --threads "${SLURM_CPUS_PER_TASK:-8}" --metrics "$IAA_DATA/metrics/$DATASET-$SLURM_ARRAY_TASK_ID.prom"
