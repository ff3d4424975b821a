#!/bin/bash
#SBATCH --job-name=headrace-merge
#SBATCH --mem=5G
headrace merge "$1"
