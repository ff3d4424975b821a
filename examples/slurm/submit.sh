#!/bin/bash
# Submit all jobs of a run: an array for each pass, a merge after each but the last, and at the end the file.
#
#   headrace plan --census ... --recipe ... --memory 4GB --shards 64 --out run
#   bash submit.sh run x.h5ad
set -euo pipefail
run=$1 out=$2
here=$(dirname "$0")
shards=$(headrace status "$run" | sed -n '1s/.*: \([0-9]*\) shards.*/\1/p')
passes=$(headrace status "$run" | grep -c '^  pass ')
after=
for pass in $(seq "$passes"); do
    work=$(sbatch --parsable $after --array=0-$((shards - 1)) "$here/work.sh" "$run")
    after=--dependency=afterok:$work
    if [ "$pass" -lt "$passes" ]; then
        merge=$(sbatch --parsable $after "$here/merge.sh" "$run")
        after=--dependency=afterok:$merge
    fi
done
sbatch --parsable $after "$here/assemble.sh" "$run" "$out"
