#!/usr/bin/env bash
# How far do nodes hear? A class is carried 5, 20 and 50 hops around rings by networks as deep as the distance, a
# shallower and a deeper one, with the ring's own edges and with a few of FoSR's (a fifth of the distance). Writes for
# each distance table.md (accuracy), range.md (the range R in hops), depth.png and depth_influence.png, and one page,
# report.html. Interrupted, the same command finishes it.
#
#   scripts/range_study.sh [FOLDER [key=value …]]
#   scripts/range_study.sh outputs/range hydra/launcher=joblib hydra.launcher.n_jobs=4
#   DISTANCES="5 20" MODELS="gcn gcnii" scripts/range_study.sh outputs/look trainer.max_epochs=50
set -u
folder=${1:-outputs/range_study}
shift $(($# > 0))
distances=${DISTANCES:-5 20 50}
models=${MODELS:-gcn resgcn gcnii adgn}
status=0

study() { # the words of one rewiring, then the user's
    local rewiring=$1
    shift
    # shellcheck disable=SC2086
    deepgnn train -m dataset=ring_transfer "dataset.distance=$distance" dataset.num_samples=100 \
        "layers=$((distance / 2 + 1)),$distance,$((distance + 5))" hidden=32 seed=0 drop=none trainer.max_epochs=150 \
        trainer.patience=null $rewiring "output_dir='$here'" "${words[@]}" "$@"
    local code=$?
    # 1: a job diverged or failed, which the tables tell; anything else is no study.
    ((code <= 1)) || exit "$code"
    ((code == 0)) || status=1
}

for distance in $distances; do
    here=$folder/distance_$distance
    for model in $models; do
        case $model in
        adgn) words=(model=resgcn residual=none norm=none conv=antisymmetric) ;;
        *) words=("model=$model") ;;
        esac
        study rewire=none "$@"
        study "rewire=fosr rewire.iterations=$((distance / 5 + 1))" "$@"
    done
    deepgnn compare "$here" --plot "$here/depth.png" || exit
    deepgnn compare "$here" --out "$here/table.md" --format markdown || exit
    deepgnn compare "$here" --metric range_hops --out "$here/range.md" --format markdown || exit
done
deepgnn report "$folder" --title "How far do nodes hear?" --out "$folder/report.html" || exit
exit "$status"
