#!/usr/bin/env bash
# How far do nodes hear? A class is carried 5, 20 and 50 hops around rings: over the ring's own edges by networks of half
# as many layers and of as many, with a few edges of FoSR's (a fifth of the distance) and with an expander's by networks
# of at most 10 layers. Writes
# table.md (accuracy) and range.md (R in hops of the ring) for each distance, one picture, range_study.png, and one
# page, report.html. Interrupted, the same command finishes it.
#
#   scripts/range_study.sh [FOLDER [key=value …]]
#   scripts/range_study.sh outputs/range hydra/launcher=joblib hydra.launcher.n_jobs=4
#   DISTANCES="5 20" MODELS="gcn unitary" scripts/range_study.sh outputs/look trainer.max_epochs=50
set -u
here=$(dirname "$0")
folder=${1:-outputs/range_study}
shift $(($# > 0))
distances=${DISTANCES:-5 20 50}
models=${MODELS:-gcn resgcn gcnii adgn gated unitary}
rewirings=${REWIRINGS:-none fosr expander}
status=0

for distance in $distances; do
    for model in $models; do
        # The networks without a norm, skip or activation are as their papers have them.
        case $model in
        adgn)
            words=(model=resgcn residual=none norm=none conv=antisymmetric model.act=none model.encoder_act=none)
            words+=(model.conv.epsilon=0.5)
            ;;
        gated) words=(model=resgcn conv=gated) ;;
        unitary)
            words=(model=resgcn residual=none norm=none conv=unitary model.act=none model.encoder_act=none)
            words+=(optimizer.lr=0.03)
            ;;
        *) words=("model=$model") ;;
        esac
        for rewiring in $rewirings; do
            layers=$((distance < 10 ? distance : 10))
            more=()
            case $rewiring in
            none) layers=$(((distance + 1) / 2)),$distance ;;
            fosr) more=("rewire.iterations=$((distance / 5))") ;;
            esac
            deepgnn train -m dataset=ring_transfer "dataset.distance=$distance" dataset.num_samples=60 \
                "layers=$layers" hidden=32 seed=0 drop=none trainer.max_epochs=150 \
                trainer.patience=null "rewire=$rewiring" "output_dir='$folder/distance_$distance'" "${words[@]}" \
                "${more[@]}" "$@"
            code=$?
            # 1: a job diverged or failed, which the tables tell; anything else is no study.
            ((code <= 1)) || exit "$code"
            ((code == 0)) || status=1
        done
    done
    deepgnn compare "$folder/distance_$distance" --out "$folder/distance_$distance/table.md" --format markdown || exit
    deepgnn compare "$folder/distance_$distance" --metric range_hops --out "$folder/distance_$distance/range.md" \
        --format markdown || exit
done
deepgnn report "$folder" --title "How far do nodes hear?" --out "$folder/report.html" || exit
python "$here/range_figure.py" "$folder" "$folder/range_study.png" || exit
exit "$status"
