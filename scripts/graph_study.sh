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
  trainer.max_epochs=40 trainer.patience=30 data_dir="$data" output_dir="$out/nci1_deepergcn" $quiet
# A-DGN is its own residual connection and activation; weight decay would pull targets to their mean.
distances="dataset=sssp layers=2,4,8,16 seed=0,1 hidden=32 dataset.train_graphs=512 dataset.val_graphs=128
  dataset.test_graphs=256 drop=none optimizer.lr=0.01 optimizer.weight_decay=0 optimizer.conv_weight_decay=0
  trainer.max_epochs=100 trainer.patience=null trainer.select=val_score $quiet"
deepgnn train -m $distances model=gcn,gcnii,resgcn output_dir="$out/sssp"
deepgnn train -m $distances model=resgcn conv=antisymmetric norm=none residual=none model.act=none model.encoder_act=none \
  output_dir="$out/sssp"
deepgnn compare "$out/mutag_gin" "$out/mutag_deepergcn" "$out/nci1_gin" "$out/nci1_deepergcn"
deepgnn compare "$out/sssp" --plot "$out/sssp.png"
