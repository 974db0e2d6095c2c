#!/usr/bin/env bash
# Whole graphs: MUTAG in ten folds, NCI1 in its published folds (its zip and folds below $1/tu), distances in random graphs.
set -euo pipefail
data=${1:?the data folder}
out=${2:-outputs/graph_study}
export OMP_NUM_THREADS=1
quiet="trainer.diagnostics=false trainer.influence=0"
deepgnn train -m dataset=mutag model=gin layers=4 readout=jumping "dataset.fold=range(10)" drop.input=0 drop.dropout=0 \
  trainer.max_epochs=100 trainer.patience=30 data_dir="$data" output_dir="$out/mutag_gin" $quiet
deepgnn train -m dataset=mutag model=deepergcn layers=7 "dataset.fold=range(10)" drop.dropout=0.2 \
  trainer.max_epochs=100 trainer.patience=30 data_dir="$data" output_dir="$out/mutag_deepergcn" $quiet
deepgnn train -m experiment=gin_nci1 "dataset.fold=range(10)" data_dir="$data" output_dir="$out/nci1_gin" $quiet
deepgnn train -m dataset=nci1 model=deepergcn layers=3,7,14 dataset.fold=0,1,2 drop.dropout=0.2 batch.graphs_per_batch=128 \
  trainer.max_epochs=100 trainer.patience=30 data_dir="$data" output_dir="$out/nci1_deepergcn" $quiet
deepgnn train -m dataset=sssp model=gcn,gcnii,resgcn layers=2,4,8,16 hidden=32 dataset.train_graphs=1024 \
  drop.dropout=0 drop.input=0 trainer.max_epochs=100 trainer.select=val_score output_dir="$out/sssp" $quiet
deepgnn compare "$out/mutag_gin" "$out/mutag_deepergcn" "$out/nci1_gin" "$out/nci1_deepergcn"
deepgnn compare "$out/sssp" --plot "$out/sssp.png"
