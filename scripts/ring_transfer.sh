#!/usr/bin/env bash
# Where depth is needed: a class is carried 5 hops around rings. With fewer layers than hops nothing beats chance
# (20 %). Writes table.md and ring.png. Interrupted, the same command finishes it.
#
#   scripts/ring_transfer.sh [FOLDER [key=value …]]
set -u
folder=${1:-outputs/ring_transfer}
shift $(($# > 0))

deepgnn train -m dataset=ring_transfer dataset.distance=5 model=sage,resgcn \
    layers=2,3,4,5,6,8 seed=0,1,2 drop=none trainer.max_epochs=300 trainer.patience=null trainer.diagnostics=false \
    "output_dir='$folder'" "$@"
code=$?
# 1: a job diverged or failed, which the tables tell; anything else is no study.
((code <= 1)) || exit "$code"
deepgnn compare "$folder" --plot "$folder/ring.png" || exit
deepgnn compare "$folder" --out "$folder/table.md" --format markdown || exit
exit "$code"
