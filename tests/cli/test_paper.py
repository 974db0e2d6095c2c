"""Tables and figures as an article prints them."""

import re
import shutil
import subprocess

import pytest

from deepgnn_cli.analysis import paper_figure
from deepgnn_cli.cli.main import run_command
from tests.analysis.fake_runs import fake_run

DEPTHS = (2, 4, 8, 16, 32, 64)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three models at six depths on two data sets, three seeds; one model falls apart with depth."""
    folder = tmp_path_factory.mktemp("study")
    models = {"gcn": ("none", 0.01), "gcnii": ("initial", -0.001), "deepergcn": ("res_plus", 0.002)}
    for dataset, base in (("cora", 0.8), ("ogbn_arxiv", 0.7)):
        for model, (residual, fall) in models.items():
            for layers in DEPTHS:
                for seed in range(3):
                    score = max(0.05, base - fall * layers + seed / 100)
                    values = {"dataset": dataset, "model": model, "conv": model, "residual": residual}
                    run = folder / f"{dataset}-{model}-{layers}-{seed}"
                    fake_run(run, **values, layers=layers, seed=seed, test_score=score, val_score=score)
    return folder


def table(capsys, study, *words: str) -> str:
    assert run_command(["compare", str(study), "--format", "latex", *words]) == 0
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    """The cells of each line; a mean and its deviation are one, several columns in one are what stands in them."""
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith("%")]
    lines = [line.replace(r" & \tiny$\pm$", "±") for line in lines]
    spanned = re.compile(r"\\multicolumn\{\d+\}\{[@{}lc]+\}\{(.*)\}")
    cells = [[cell.strip() for cell in line.removesuffix(r"\\").split(" & ")] for line in lines]
    return [[spanned.sub(r"\1", cell) for cell in line] for line in cells]


def test_one_table_of_methods_by_depth_a_block_a_data_set(study, capsys):
    text = table(capsys, study)
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 1
    assert r"*{6}{S[table-format=2.1,detect-weight]@{}l}" in text
    found = rows(text)
    assert found[1] == ["", *map(str, DEPTHS)]
    assert [row[0] for row in found[2:]] == [
        r"\textit{Cora}", "DeeperGCN", "GCN", "GCNII",
        r"\textit{ogbn-arxiv}", "DeeperGCN", "GCN", "GCNII",
    ]  # fmt: skip
    gcn = found[4]
    assert gcn[1:3] == [r"\bfseries 79.0±1.0", "77.0±1.0"], (
        "mean and sample std of 78, 79, 80 %; the best by validation"
    )


def test_where_columns_rename_and_transpose(study, capsys):
    words = ["--where", "dataset=cora", "model=gcn,gcnii", "--rename", "gcnii=Ours $x$", "--columns", "64", "2"]
    found = rows(table(capsys, study, *words))
    assert found[1] == ["", "64", "2"] and [row[0] for row in found[2:]] == ["GCN", r"Ours \$x\$"]
    turned = rows(table(capsys, study, "--where", "dataset=cora", "--transpose", "--columns", "GCNII,GCN"))
    assert turned[0] == ["layers", "GCNII", "GCN"] and [row[0] for row in turned[1:]] == list(map(str, DEPTHS))
    assert turned[1][2] == found[2][2]


def test_at_one_depth_the_data_sets_are_the_columns(study, capsys):
    found = rows(table(capsys, study, "--where", "layers=2"))
    assert found[1] == ["", "Cora", "ogbn-arxiv"]
    assert [row[0] for row in found[2:] if r"\bfseries" in row[1]] == ["GCNII"], "the best method of each column"


def test_what_has_no_number_says_why(tmp_path, capsys):
    fake_run(tmp_path / "a", layers=2, test_score=0.8, val_score=0.8)
    fake_run(tmp_path / "b", layers=4, status="oom", test_score="", val_score="")
    fake_run(tmp_path / "c", layers=2, model="gat", conv="gat", test_score=0.7, val_score=0.7)
    found = rows(table(capsys, tmp_path))
    assert found[2:] == [["GAT", "70.0", "--"], ["GCN", "80.0", "oom"]]


def test_the_metric_may_be_negative_or_large(tmp_path, capsys):
    for layers, loss in ((2, -0.123456), (4, 0.2)):
        fake_run(tmp_path / str(layers), layers=layers, val_loss=loss)
    assert "S[table-format=-1.3,detect-weight]" in (text := table(capsys, tmp_path, "--metric", "val_loss"))
    assert "-0.123" in text


def test_minus_signs_of_the_wide_tables_are_true(study, capsys):
    wide = table(capsys, study, "--detail", "--baseline", "model=gcnii")
    assert "$-$" in wide and not re.search(r"& -\d", wide)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "dataset=coraa"], "did you mean cora"),
        (["--where", "datasett=cora"], "did you mean dataset"),
        (["--where", "dataset"], "NAME=VALUE"),
        (["--rename", "=x"], "NAME=VALUE"),
        (["--columns", "3", "--format", "latex"], "the table has 2, 4"),
        (["--columns", "meann", "--format", "json"], "did you mean mean"),
        (["--columns", "mean"], "--columns is for"),
        (["--where", "layers=2", "--style", "paper", "--plot", "a.pdf"], "one depth"),
    ],
)
def test_a_mistake_is_one_line(words, said, study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(["compare", str(study), *words]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_data_formats_show_the_columns_that_are_asked_for(study, capsys):
    assert run_command(["compare", str(study), "--format", "csv", "--columns", "model,mean", "n"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "model,mean,n"


@pytest.mark.parametrize(("words", "width"), [(["--where", "dataset=cora"], 3.35), ([], 6.9)])
def test_a_figure_has_a_columns_width_and_its_fonts_inside(words, width, study, tmp_path, capsys):
    file = tmp_path / "depth.pdf"
    assert run_command(["compare", str(study), *words, "--style", "paper", "--plot", str(file)]) == 0
    content = file.read_bytes()
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+)", content)
    assert float(box) == pytest.approx(72 * width, abs=0.5)
    assert b"/FontFile2" in content and b"/Type3" not in content
    svg = tmp_path / "depth.svg"
    assert run_command(["compare", str(study), *words, "--style", "paper", "--plot", str(svg)]) == 0
    assert "<text" not in svg.read_text()


def test_an_error_is_no_percentage(tmp_path, capsys, monkeypatch):
    for layers in (2, 4):
        values = {"dataset": "sssp", "model": "gcn", "metric": "log10_mse", "direction": "lower"}
        fake_run(tmp_path / f"run-{layers}", **values, layers=layers, test_score=-layers / 2, val_score=-layers / 2)
    text = table(capsys, tmp_path)
    assert "in %" not in text and "-2.00" in text and "-100" not in text
    draw = paper_figure.draw
    drawn = []
    monkeypatch.setattr(paper_figure, "draw", lambda *given: drawn.append(given) or draw(*given))
    assert run_command(["compare", str(tmp_path), "--style", "paper", "--plot", str(tmp_path / "depth.svg")]) == 0
    ((((panel,), ylabel),)) = drawn
    assert ylabel == "test score" and panel.curves[0].mean == (-1.0, -2.0)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize(
    "words",
    [[], ["--transpose"], ["--columns", "2,64"], ["--rename", "deepergcn=DeeperGCN of 2020"], ["--where", "layers=2"]],
)
def test_the_table_fits_a_column_of_a_two_column_article(words, study, tmp_path, capsys):
    document = [
        r"\documentclass[twocolumn]{article}\usepackage{booktabs,siunitx,graphicx}\begin{document}\begin{table}"
    ]
    document += [table(capsys, study, *words), r"\end{table}\end{document}", ""]
    (tmp_path / "a.tex").write_text("\n".join(document))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "a.log").read_text()
