#!/usr/bin/env bash
# The depth study: GCN, GCNII, JKNet and GCN with PairNorm at 2 to 64 layers on Cora, three seeds each; then its
# table (table.md), its picture (depth.png) and its page (report.html). Interrupted, the same command finishes it.
#
#   scripts/depth_study.sh [FOLDER [key=value …]]
#   scripts/depth_study.sh outputs/depth_study hydra/launcher=joblib hydra.launcher.n_jobs=4
#   scripts/depth_study.sh outputs/look layers=2,4 seed=0 trainer.max_epochs=20
set -u
folder=${1:-outputs/depth_study}
shift $(($# > 0))
status=0

study() {
    deepgnn train -m dataset=cora "layers=2,4,8,16,32,64" "seed=0,1,2" "output_dir='$folder'" "$@"
    local code=$?
    # 1: a job diverged or failed, which the tables tell; anything else is no study.
    ((code <= 1)) || exit "$code"
    ((code == 0)) || status=1
}

study model=gcn,gcnii,jknet "$@"
study model=gcn norm=pair "$@"

baseline=model=gcn,norm=none
deepgnn compare "$folder" --baseline "$baseline" --plot "$folder/depth.png" || exit
deepgnn compare "$folder" --baseline "$baseline" --out "$folder/table.md" --format markdown || exit
deepgnn report "$folder" --baseline "$baseline" --title "Depth on Cora" --out "$folder/report.html" || exit
exit "$status"
