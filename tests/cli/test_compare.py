import csv
import io
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from deepgnn_cli.cli.compare import main
from deepgnn_cli.cli.main import run_command
from tests.analysis.fake_runs import fake_influence, fake_layers, fake_row, fake_run, fake_status, write_rows

GCN = [0.810, 0.802, 0.818, 0.806]
GCNII = [0.842, 0.851, 0.839, 0.848]


def compare(capsys, *argv):
    assert main([str(word) for word in argv]) == 0
    return capsys.readouterr()


def records(capsys, *argv):
    return json.loads(compare(capsys, *argv, "--format", "json").out)


def two_models(folder):
    for model, scores in (("gcn", GCN), ("gcnii", GCNII)):
        for seed, score in enumerate(scores):
            fake_run(folder / f"{model}-{seed}", model=model, conv=model, seed=seed, test_score=score)
    return folder


def test_the_numbers_of_a_group_equal_scipys(tmp_path, capsys):
    gcn, gcnii = records(capsys, two_models(tmp_path), "--baseline", "model=gcn")
    for row, scores in ((gcn, GCN), (gcnii, GCNII)):
        mean = np.mean(scores)
        logits = stats.t.interval(0.95, 3, loc=logit(mean), scale=stats.sem(scores) / (mean * (1 - mean)))
        low, high = expit(logits)
        assert row["n"] == 4
        assert math.isclose(row["mean"], np.mean(scores))
        assert math.isclose(row["std"], np.std(scores, ddof=1))
        assert math.isclose(row["ci_low"], low) and math.isclose(row["ci_high"], high)
    assert math.isclose(gcnii["p_value"], stats.ttest_rel(GCNII, GCN).pvalue)
    assert math.isclose(gcnii["difference"], np.mean(GCNII) - np.mean(GCN))
    assert gcnii["pairs"] == 4
    assert gcn["baseline"] == "baseline" and gcn["p_value"] is None


def test_text_shows_percent_with_the_spread(tmp_path, capsys):
    text = compare(capsys, two_models(tmp_path), "--baseline", "model=gcn").out
    assert "84.50 ± 0.55" in text and "80.90 ± 0.68" in text
    assert "+3.60" in text
    assert "fewer than 5 pairs" in text
    assert max(map(len, text.splitlines())) <= 140


def test_pairs_are_of_one_seed_and_one_split(tmp_path, capsys):
    rows = []
    scores = {}
    for model, shift in (("gcn", 0.0), ("gcnii", 0.03)):
        for fold in range(3):
            for seed in range(2):
                score = 0.7 + shift + 0.05 * fold + 0.003 * (seed + fold) * (1 + shift)
                scores[model, fold, seed] = score
                if (model, fold, seed) != ("gcn", 1, 1):
                    rows.append(fake_row(model=model, conv=model, split=f"geom-{fold}", seed=seed, test_score=score))
    write_rows(tmp_path / "r.csv", rows)
    (gcn, gcnii) = records(capsys, tmp_path, "--baseline", "model=gcn")
    assert (gcn["n"], gcnii["n"], gcnii["pairs"]) == (5, 6, 5), "the index of a split is no setting"
    keys = [(fold, seed) for fold in range(3) for seed in range(2) if (fold, seed) != (1, 1)]
    reference = stats.ttest_rel([scores["gcnii", *key] for key in keys], [scores["gcn", *key] for key in keys])
    assert math.isclose(gcnii["p_value"], reference.pvalue)


@pytest.mark.parametrize(("seeds", "pairs"), [([5], 0), ([0], 1)])
def test_too_few_pairs_give_no_p_value_and_say_so(tmp_path, capsys, seeds, pairs):
    for seed in range(2):
        fake_run(tmp_path / f"a{seed}", seed=seed, test_score=0.8 + seed / 100)
    for seed in seeds:
        fake_run(tmp_path / f"b{seed}", norm="pair", seed=seed, test_score=0.9)
    out = compare(capsys, tmp_path, "--baseline", "norm=none").out
    assert f"too few ({pairs})" in out and "fewer than 5 pairs" in out
    pair = records(capsys, tmp_path, "--baseline", "norm=none")[1]
    assert pair["p_value"] is None and pair["pairs"] == pairs
    assert math.isclose(pair["difference"], 0.1 if pairs else 0.095)


def test_a_baseline_is_met_at_the_same_depth_and_data_set(tmp_path, capsys):
    rows = []
    for dataset in ("cora", "pubmed"):
        for model, residual in (("gcn", "none"), ("gcnii", "initial")):
            for layers in (2, 4):
                for seed in range(3):
                    score = 0.7 + layers / 100 + (model == "gcnii") * layers / 50 + seed / 100
                    score += (dataset == "pubmed") / 10
                    values = {"dataset": dataset, "model": model, "conv": model, "residual": residual}
                    rows.append(fake_row(**values, layers=layers, seed=seed, test_score=score))
    write_rows(tmp_path / "r.csv", rows)
    for row in records(capsys, tmp_path, "--baseline", "model=gcn"):
        if row["model"] == "gcnii":
            assert math.isclose(row["difference"], row["layers"] / 50)
            assert f"layers={row['layers']}" in row["baseline"] and row["dataset"] in row["baseline"]


def test_a_single_baseline_group_stands_against_all_of_its_data_set(tmp_path, capsys):
    rows = [
        fake_row(layers=layers, seed=seed, dataset=dataset, test_score=0.5 + layers / 100 + seed / 100)
        for dataset in ("cora", "pubmed")
        for layers in (2, 4, 8)
        for seed in range(2)
        if (dataset, layers) != ("pubmed", 2)
    ]
    write_rows(tmp_path / "r.csv", rows)
    found = records(capsys, tmp_path, "--baseline", "layers=2")
    cora = {row["layers"]: row["difference"] for row in found if row["dataset"] == "cora"}
    assert cora[2] is None and math.isclose(cora[4], 0.02) and math.isclose(cora[8], 0.06)
    assert all(row["difference"] is None for row in found if row["dataset"] == "pubmed")


def test_only_what_differs_separates_groups(tmp_path, capsys):
    for norm in ("none", "pair"):
        for seed in range(2):
            fake_run(tmp_path / f"{norm}{seed}", norm=norm, seed=seed)
    first, second = records(capsys, tmp_path)
    assert list(first)[:2] == ["norm", "measure"]
    assert (first["norm"], second["norm"]) == ("none", "pair")


def test_overrides_separate_runs_with_one_seed(tmp_path, capsys):
    for rate in (0.1, 0.01):
        for seed in range(2):
            overrides = f"model=gcn optimizer.lr={rate} seed={seed} output_dir=out{seed}"
            fake_run(tmp_path / f"{rate}-{seed}", seed=seed, overrides=overrides)
    found = records(capsys, tmp_path)
    assert [(row["overrides"], row["n"]) for row in found] == [("optimizer.lr=0.01", 2), ("optimizer.lr=0.1", 2)]


def test_configurations_that_nothing_else_tells_apart_are_not_replicates(tmp_path, capsys):
    for digest in ("aa", "bb"):
        fake_run(tmp_path / digest, config_hash=digest, test_score=0.8)
    out = compare(capsys, tmp_path)
    assert "each config_hash is a group of its own" in out.out
    assert [row["n"] for row in records(capsys, tmp_path)] == [1, 1]


def test_a_column_of_a_foreign_file_separates_what_nothing_else_does(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    lines = [f"gcn,2,{seed},{drop},0.8{seed}" for drop in (0.1, 0.5) for seed in range(3)]
    path.write_text("\n".join(["model,layers,seed,drop,test_score", *lines]))
    assert [(row["drop"], row["n"]) for row in records(capsys, path)] == [("0.1", 3), ("0.5", 3)]


def test_a_repeated_run_is_not_another_replicate(tmp_path, capsys):
    for i, (seed, score) in enumerate([(0, 0.8), (0, 0.9), (1, 0.7)]):
        fake_run(tmp_path / str(i), seed=seed, test_score=score, run_id=f"r{i}")
    captured = compare(capsys, tmp_path, "--format", "json")
    (row,) = json.loads(captured.out)
    assert (row["n"], row["runs"]) == (2, 3)
    assert math.isclose(row["mean"], (0.85 + 0.7) / 2)
    assert "1 run repeats" in captured.err


def test_by_takes_the_columns_it_is_given_and_says_what_it_mixes(tmp_path, capsys):
    rows = [
        fake_row(model=model, conv=model, layers=layers, seed=seed, test_score=0.6 + layers / 100 + bonus + seed / 1000)
        for model, bonus in (("gcn", 0.0), ("gat", 0.05))
        for layers in (2, 4)
        for seed in range(2)
    ]
    write_rows(tmp_path / "r.csv", rows)
    captured = compare(capsys, tmp_path, "--by", "model", "--baseline", "model=gcn", "--format", "json")
    gat, gcn = json.loads(captured.out)
    assert (gat["n"], gat["pairs"], "layers" in gat) == (4, 4, False)
    assert math.isclose(gat["difference"], 0.05)
    assert "mixes runs that differ in layers: 2, 4" in captured.err


def test_runs_that_did_not_finish_are_counted_not_hidden(tmp_path, capsys):
    for seed, status in enumerate(["ok", "ok", "diverged", "oom", "failed", "interrupted"]):
        fake_run(tmp_path / str(seed), seed=seed, status=status, test_score=0.8 if status == "ok" else "")
    fake_status(tmp_path / "killed", status="running", pid=2**22 + 1, started="2026-01-01", updated="2026-01-01")
    out = compare(capsys, tmp_path).out
    assert "7 runs in 1 group: 2 ok, 1 diverged, 1 oom, 1 failed, 1 interrupted, 1 killed" in out
    (row,) = records(capsys, tmp_path)
    assert (row["n"], row["runs"]) == (2, 7)
    assert [row[name] for name in ("ok", "diverged", "oom", "failed", "interrupted", "killed")] == [2, 1, 1, 1, 1, 1]


def test_the_score_of_a_run_that_did_not_finish_is_not_averaged(tmp_path, capsys):
    fake_run(tmp_path / "a", seed=0, test_score=0.8)
    fake_run(tmp_path / "b", seed=1, test_score=0.2, status="interrupted")
    (row,) = records(capsys, tmp_path)
    assert (row["n"], row["mean"], row["std"]) == (1, 0.8, None)


def test_a_killed_run_joins_the_group_it_must_belong_to(tmp_path, capsys):
    for model, layers in (("gcn", 2), ("gcn", 4), ("gcnii", 2)):
        fake_run(tmp_path / f"{model}{layers}", model=model, conv=model, layers=layers)
    folder = fake_status(tmp_path / "killed", status="running", pid=2**22 + 1, started="2026-01-01")
    (folder / "config.yaml").write_text("model: gcnii\nlayers: 2\nseed: 3\n")
    killed = {(row["model"], row["layers"]): row["killed"] for row in records(capsys, tmp_path)}
    assert killed == {("gcn", 2): 0, ("gcn", 4): 0, ("gcnii", 2): 1}


def depth_study(folder):
    scores = {"gcn": {2: 0.81, 8: 0.75, 64: 0.40}, "gcnii": {2: 0.80, 8: 0.83, 64: 0.85}}
    for model, by_depth in scores.items():
        for layers, score in by_depth.items():
            for seed in range(2):
                run = fake_run(
                    folder / f"{model}-{layers}-{seed}", model=model, conv=model, layers=layers, seed=seed,
                    test_score=score + seed / 100, val_score=0.9 - (layers - 8 * (model == "gcnii")) ** 2 / 10_000,
                    step_seconds=layers / 1000,
                    peak_memory_mib=10 * layers,
                )  # fmt: skip
                fake_layers(run, [1 / (layer + 1) for layer in range(layers + 1)])
    return folder


def test_the_best_depth_is_marked_per_model(tmp_path, capsys):
    depth_study(tmp_path)
    best = {row["model"]: row["layers"] for row in records(capsys, tmp_path) if row["best_depth"]}
    assert best == {"gcn": 2, "gcnii": 8}, "by validation; by the test score it would be 64"
    text = compare(capsys, tmp_path).out
    assert "by layers" in text and "83.50 ± 0.71 *" in text and "by the mean val_score" in text
    assert "by test_score another depth would have been chosen: gcnii 64 instead of 8 layers" in text
    cheapest = [row for row in records(capsys, tmp_path, "--metric", "step_seconds") if row["best_depth"]]
    assert {row["layers"] for row in cheapest} == {2}, "of a cost, less is better"


def test_without_validation_the_choice_is_by_test_and_the_reader_is_told(tmp_path, capsys):
    for layers, score in ((2, 0.8), (4, 0.9)):
        fake_run(tmp_path / str(layers), layers=layers, test_score=score)
    text = compare(capsys, tmp_path).out
    assert "90.00 *" in text and "no val_score: the best depth is chosen by test_score" in text


@pytest.mark.parametrize(
    ("failed", "finished", "counted"),
    [
        ("2026-01-01_10-00-00_a", "2026-01-01_11-00-00_b", 0),
        ("2026-01-01_12-00-00_a", "2026-01-01_11-00-00_b", 1),
        ("a", "b", 0),
    ],
)
def test_a_failure_that_finished_later_no_longer_counts(tmp_path, capsys, failed, finished, counted):
    fake_run(tmp_path / "a", run_id=failed, config_hash="h", status="oom", test_score="")
    fake_run(tmp_path / "b", run_id=finished, config_hash="h")
    fake_run(tmp_path / "c", seed=1, status="failed", test_score="")
    (row,) = records(capsys, tmp_path)
    assert (row["ok"], row["oom"], row["failed"]) == (1, counted, 1)


def test_methods_are_ranked_over_three_data_sets(tmp_path, capsys):
    for i, model in enumerate(("gcn", "gat", "sage")):
        for j, dataset in enumerate(("cora", "pubmed", "actor")):
            fake_run(tmp_path / f"{i}{j}", model=model, conv=model, dataset=dataset, test_score=0.5 + i / 10 + j / 100)
    text = compare(capsys, tmp_path).out
    assert "mean rank over 3 data sets (1 is best): sage 1.00, gat 2.00, gcn 3.00; Friedman p = 0.05" in text


def test_p_values_are_holm_corrected_and_come_with_an_effect_size(tmp_path, capsys):
    samples = {"none": GCN, "pair": GCNII, "batch": [0.812, 0.801, 0.821, 0.809]}
    for norm, scores in samples.items():
        for seed, score in enumerate(scores):
            fake_run(tmp_path / f"{norm}{seed}", norm=norm, seed=seed, test_score=score)
    rows = {row["norm"]: row for row in records(capsys, tmp_path, "--baseline", "norm=none")}
    small, large = sorted(("pair", "batch"), key=lambda norm: rows[norm]["p_value"])
    assert math.isclose(rows[small]["p_holm"], 2 * rows[small]["p_value"])
    assert math.isclose(rows[large]["p_holm"], max(rows[large]["p_value"], rows[small]["p_holm"]))
    differences = np.array(GCNII) - np.array(GCN)
    assert math.isclose(rows["pair"]["effect_size"], differences.mean() / differences.std(ddof=1))
    text = compare(capsys, tmp_path, "--baseline", "norm=none").out
    assert "Holm-corrected for 2 tests" in text


def test_the_difference_to_the_published_number(tmp_path, capsys):
    for seed, score in enumerate([0.85, 0.86]):
        fake_run(tmp_path / str(seed), seed=seed, test_score=score, reported=0.855, layers=64)
        fake_run(tmp_path / f"other{seed}", seed=seed, test_score=score, reported=0.855 if seed else "", layers=2)
    two, sixty_four = records(capsys, tmp_path)
    assert sixty_four["reported"] == 0.855 and math.isclose(sixty_four["difference_to_reported"], 0.0, abs_tol=1e-9)
    assert two["reported"] is None, "not every run of the group claims that number"
    (_, other) = records(capsys, tmp_path, "--metric", "val_score")
    assert other["reported"] is None, "the number is a test score"


def test_formats_tell_the_same(tmp_path, capsys):
    depth_study(tmp_path)
    wanted = {(row["model"], row["layers"]): row["mean"] for row in records(capsys, tmp_path)}
    rows = csv.DictReader(io.StringIO(compare(capsys, tmp_path, "--format", "csv").out))
    assert {(row["model"], int(row["layers"])): float(row["mean"]) for row in rows} == wanted
    markdown = compare(capsys, tmp_path, "--format", "markdown").out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    at = {name: i for i, name in enumerate(cells[0])}
    for row in cells[2 : 2 + len(wanted)]:
        mean = float(row[at["test_score %"]].strip("*").split(" ± ")[0])
        assert mean == round(100 * wanted[row[at["model"]], int(row[at["layers"]])], 2)
    latex = compare(capsys, tmp_path, "--format", "latex", "--detail").out
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == latex.count(r"\begin{tabular}") == 3
    assert r"\textbf{83.50 $\pm$ 0.71}" in latex
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    assert not re.search(r"(?<!\\)[_%]", "\n".join(body).replace(r"\begin", ""))


def test_latex_escapes_and_markdown_keeps_its_columns(tmp_path, capsys):
    for i, model in enumerate((r"a_b&c%d$e#f{g}~^\x", "left|right")):
        fake_run(tmp_path / str(i), model=model)
    latex = compare(capsys, tmp_path, "--format", "latex").out
    assert r"a\_b\&c\%d\$e\#f\{g\}\textasciitilde{}\textasciicircum{}\textbackslash{}x" in latex
    assert r"left\|right" in compare(capsys, tmp_path, "--format", "markdown").out


def test_out_is_written_in_the_format_of_its_name(tmp_path, capsys):
    two_models(tmp_path / "runs")
    captured = compare(capsys, tmp_path / "runs", "--out", tmp_path / "t.json")
    assert captured.out == "" and len(json.loads((tmp_path / "t.json").read_text())) == 2
    compare(capsys, tmp_path / "runs", "--out", tmp_path / "t.tex", "--format", "csv")
    assert (tmp_path / "t.tex").read_text().startswith("model,")


def test_its_own_table_is_not_taken_for_results(tmp_path, capsys):
    two_models(tmp_path)
    compare(capsys, tmp_path, "--out", tmp_path / "table.csv")
    captured = compare(capsys, tmp_path, "--format", "json")
    assert len(json.loads(captured.out)) == 2
    assert "table.csv: not a result file" in captured.err


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_draws_what_its_suffix_says(tmp_path, capsys, suffix):
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    path = tmp_path / f"depth{suffix}"
    runs = depth_study(tmp_path / "runs")
    for folder in {file.parent for file in runs.rglob("result.csv")}:
        fake_influence(folder, [0.5, 0.3, 0.2])
    compare(capsys, runs, "--plot", path)
    assert (tmp_path / f"depth_influence{suffix}").read_bytes().startswith(magic[suffix])
    assert path.read_bytes().startswith(magic[suffix])
    if suffix == ".svg":
        text = path.read_text()
        assert "effective rank of the last layer" in text and "peak memory" in text and "gcnii" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--by", "modle"], "--by modle: no such column; did you mean model"),
        (["--by", "test_score"], "measurement"),
        (["--metric", "tset_score"], "did you mean test_score"),
        (["--metric", "layers"], "--metric layers is a setting"),
        (["--metric", "status"], "not a column of numbers"),
        (["--baseline", "model"], "not KEY=VALUE"),
        (["--baseline", "modl=gcn"], "did you mean model"),
        (["--baseline", "model=gcni"], "did you mean gcn"),
        (["--plot", "x.gif"], "use one of .png, .svg, .pdf"),
        (["--out", "no/such/folder/x.csv"], "no such folder"),
    ],
)
def test_mistakes_are_named(tmp_path, argv, message):
    two_models(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        main([str(tmp_path), *argv])


@pytest.mark.parametrize("argv", [[], ["x", "--format", "xml"], ["x", "--nonsense"]])
def test_unknown_options_end_in_one_line_and_status_2(argv, capsys):
    assert run_command(["compare", *argv]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_results_is_a_mistake(tmp_path):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"no results below .*empty\.csv: empty"):
        main([str(tmp_path)])


def test_bad_files_are_named_on_stderr_and_the_rest_is_shown(tmp_path, capsys):
    two_models(tmp_path)
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    captured = compare(capsys, tmp_path)
    assert "foreign.csv: not a result file" in captured.err
    assert "84.50 ± 0.55" in captured.out


def test_nothing_of_it_imports_torch(tmp_path):
    depth_study(tmp_path / "runs")
    code = (
        "import sys; from deepgnn_cli.cli.compare import main\n"
        f"status = main([{str(tmp_path / 'runs')!r}, '--plot', {str(tmp_path / 'x.svg')!r}])\n"
        "assert 'torch' not in sys.modules and 'scipy.stats' not in sys.modules; sys.exit(status)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("kind", ["fifo", "folder", "binary", "long"])
def test_a_result_csv_that_is_none_is_skipped_with_a_line(kind, tmp_path, capsys, within_a_minute):
    path = fake_run(tmp_path / "good").parent / "bad" / "result.csv"
    path.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"binary": bytes(range(256)), "long": b'model,test_score\n"' + b"x" * 200_000 + b'",1\n'}[kind]
        )
    told = compare(capsys, tmp_path)
    assert "gcn" in told.out and (str(path) in told.err or kind == "folder")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\x0b"])
def test_a_line_break_in_a_value_stays_in_its_latex_comment(end, tmp_path, capsys):
    for layers in (2, 4):
        fake_run(tmp_path / str(layers), layers=layers, dataset=f"cora{end}\\input{{/etc/passwd}}")
    text = compare(capsys, tmp_path, "--format", "latex").out
    assert not [line for line in text.splitlines() if line.startswith("\\input")]


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    fake_run(tmp_path / "a", model="gcn\x1b[31m\x07")
    for form in ("text", "markdown", "latex"):
        told = compare(capsys, tmp_path, "--format", form)
        assert not set(told.out + told.err) & {"\x1b", "\x07", "\x9b"}


@pytest.mark.parametrize("value", ["=1+1", "@SUM(1)"])
def test_no_cell_of_a_csv_is_a_spreadsheets_formula(value, tmp_path, capsys):
    fake_run(tmp_path / "a", model=value)
    rows = list(csv.reader(io.StringIO(compare(capsys, tmp_path, "--format", "csv").out)))
    assert value in str(rows) and not [cell for row in rows for cell in row if cell.startswith(("=", "@"))]


def errors(folder):
    """Two models at two depths whose metric is an error: gin is better, and best at 4 layers."""
    for model, depth, value in (("gcn", 2, 0.5), ("gcn", 4, 0.4), ("gin", 2, 0.3), ("gin", 4, 0.2)):
        for seed in range(3):
            missed = value + seed / 100
            row = {"metric": "mae", "direction": "lower", "test_score": missed, "val_score": missed, "reported": 1.25}
            name = f"{model}-{depth}-{seed}"
            fake_run(folder / name, model=model, conv=model, layers=depth, seed=seed, **row)
    return folder


def test_an_error_is_better_the_lower_it_is_and_no_percentage(tmp_path, capsys):
    found = compare(capsys, errors(tmp_path))
    text = found.out
    assert "test_score by layers" in text and "%" not in text.replace("95 % CI", "")
    assert re.search(r"gin +\S.* 0.21 ± 0.01 \*", text) and "0.41 ± 0.01 *" in text
    assert "fraction" not in found.err
    rows = records(capsys, tmp_path)
    assert {row["direction"] for row in rows} == {"lower"}
    assert [(row["model"], row["layers"]) for row in rows if row["best_depth"]] == [("gcn", 4), ("gin", 4)]
    half = stats.sem([0.2, 0.21, 0.22]) * stats.t.ppf(0.975, 2)
    assert math.isclose(rows[-1]["ci_low"], 0.21 - half)  # Student's own: nothing holds an error in [0, 1]


def test_a_known_error_needs_no_column_of_directions(tmp_path, capsys):
    for depth, value in ((2, -1.0), (4, -2.0)):
        values = {"metric": "log10_mse", "test_score": value, "val_score": value}
        fake_run(tmp_path / str(depth), layers=depth, **values)
    rows = records(capsys, tmp_path)
    assert [row["layers"] for row in rows if row["best_depth"]] == [4]


def test_groups_that_mix_metrics_are_told(tmp_path, capsys):
    fake_run(tmp_path / "a", seed=0)
    fake_run(tmp_path / "b", seed=1, metric="roc_auc")
    assert "groups mix metrics (accuracy, roc_auc)" in compare(capsys, tmp_path).out


def test_methods_are_ranked_over_errors_and_scores_alike(tmp_path, capsys):
    """gin is best everywhere: the highest accuracy, the lowest error."""
    for dataset, metric in (("a", "accuracy"), ("b", "mae"), ("c", "log10_mse")):
        for place, model in enumerate(("gin", "gcn", "sage")):
            value = 0.9 - place / 10 if metric == "accuracy" else 0.1 + place / 10
            row = {"metric": metric, "test_score": value, "val_score": value}
            fake_run(tmp_path / f"{dataset}-{model}", dataset=dataset, model=model, conv=model, **row)
    assert "gin 1.00, gcn 2.00, sage 3.00" in compare(capsys, tmp_path).out
