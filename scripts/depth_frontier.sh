#!/usr/bin/env bash
# Which trick survives depth: every residual with and without layer normalisation at 2, 8 and 32 layers, on Cora (three
# seeds, at most 300 epochs, early stopping) and on Minesweeper (one split, one seed, 200 epochs, all of them). About two
# hours on two cores. Writes cora.md, cora.csv, minesweeper.md, minesweeper.csv and depth_frontier.png, a heat map of both.
# Interrupted, the same command finishes it.
#
#   scripts/depth_frontier.sh [FOLDER [key=value …]]
set -u
folder=${1:-outputs/depth_frontier}
shift $(($# > 0))
residuals=none,res,res_plus,dense,initial,jumping,reversible,linear,rezero,layer_scale,scaled,deep_norm,highway
residuals+=,gradient_gating,state_space,ordered,pre_norm,post_norm
common=(model=gcn model.decoder=linear "residual=$residuals" norm=none,layer layers=2,8,32 trainer.diagnostics=false)

worst=0
study() {
    local name=$1
    shift
    deepgnn train -m "${common[@]}" "output_dir='$folder/$name'" "$@"
    local code=$?
    # 1: a job diverged or failed, which the tables tell; anything else is no study.
    ((code <= 1)) || exit "$code"
    ((code > worst)) && worst=$code
    local format
    for format in markdown:md csv:csv; do
        deepgnn compare "$folder/$name" --by residual,norm,layers --format "${format%:*}" --out "$folder/$name.${format#*:}" \
            || exit
    done
}

study cora dataset=cora seed=0,1,2 trainer.max_epochs=300 "$@"
study minesweeper dataset=minesweeper drop.dropout=0.2 drop.input=0.0 optimizer.weight_decay=0.0 \
    trainer.max_epochs=200 trainer.patience=null trainer.select=val_score "$@"
python "$(dirname "$0")/depth_heat_map.py" "Cora=$folder/cora.csv" "Minesweeper=$folder/minesweeper.csv" \
    --out "$folder/depth_frontier.png" || exit
exit "$worst"
