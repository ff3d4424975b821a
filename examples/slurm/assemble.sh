#!/bin/bash
#SBATCH --job-name=headrace-assemble
#SBATCH --cpus-per-task=4
#SBATCH --mem=5G
headrace assemble "$1" --out "$2" --overwrite
