#!/usr/bin/env bash
# The accuracy table of docs/results.md: three seeds of each row, then one table. Finished runs are not repeated.
#   scripts/reproduce.sh [OUTPUT_FOLDER]
set -uo pipefail
out="${1:-outputs/reproduce}"
run() { deepgnn train -m seed=0,1,2 trainer.diagnostics=false output_dir="$out" "$@"; }

run model=gcn layers=2,16,32,64
run model=appnp layers=10
run model=jknet layers=8
run model=gcn norm=pair layers=16
run model=gcn residual=initial layers=32
run model=grand layers=5
run model=gcnii layers=64 seed=0,1,2,3,4
run model=gcnii_star layers=64
run experiment=gcnii_citeseer
run experiment=gcnii_pubmed
deepgnn compare "$out" --format markdown
