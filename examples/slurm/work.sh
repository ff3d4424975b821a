#!/bin/bash
#SBATCH --job-name=headrace-work
#SBATCH --cpus-per-task=1
#SBATCH --mem=5G
# The next step of one shard; --mem is a little more than the --memory of the plan.
headrace work "$1"  # the shard is SLURM_ARRAY_TASK_ID
