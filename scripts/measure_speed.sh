#!/usr/bin/env bash
# Everything that docs/results.md says of speed and memory, in one go; for a quiet machine, about half an hour on two cores.
#     scripts/measure_speed.sh [FOLDER]        # CSVs and pictures go to FOLDER (docs)
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-docs}"
python="${PYTHON:-python}"
run() { echo "== $*"; "$python" -W ignore "$@"; }
mkdir -p "$out"

run scripts/bench_step.py --rounds 15 --out "$out/bench_step.csv"
run scripts/bench_step.py --growth --rounds 9 --out "$out/bench_growth.csv"
run scripts/bench_aggregation.py --out "$out/bench_aggregation.csv"
run scripts/bench_models.py --out "$out/bench_models.csv"
run scripts/bench_models.py --growth --rounds 3 --models "deepergcn, softmax" gat revgen grand --out "$out/bench_models_growth.csv"

echo "== a whole default run"
time "$python" -m deepgnn_cli train dataset=cora model=gcnii layers=64

# A graph of ogbn-arxiv's size, full batch: 28 layers of 128 channels within 24 GiB, and reversible within 4 GiB.
run scripts/bench_large.py --epochs 2 --out "$out/bench_large.csv"
