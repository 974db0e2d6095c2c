import html.parser
import json
import re
import shutil
import subprocess

import pytest

from deepgnn_cli.cli.report import main
from tests.analysis.fake_runs import (
    fake_embeddings,
    fake_epochs,
    fake_influence,
    fake_layers,
    fake_run,
    fake_status,
    write_rows,
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --virtual-time-budget=2000"
)
EVIL = '<script>document.title="broken"</script>'


class Elements(html.parser.HTMLParser):
    """Tags with their attributes, and all text outside style and scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.inside = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside not in ("style", "script"):
            self.text.append(data)

    def handle_endtag(self, tag):
        self.inside = ""


def study(folder):
    """Two models at three depths, two seeds; one run diverged with hostile words, one was killed."""
    for model in ("gcn", "gcnii"):
        for layers in (2, 4, 8):
            for seed in range(2):
                values = {"model": model, "conv": model, "layers": layers, "seed": seed}
                values |= {"test_score": 0.8 + layers / 100 * (1 if model == "gcnii" else -1) + seed / 200}
                values |= {"step_seconds": layers / 100, "peak_memory_mib": 10.0 * layers, "memory_kind": "rss"}
                values |= {"overrides": f"model={model} layers={layers} seed={seed}", "version_torch": "2.13.0"}
                run = fake_run(folder / f"{model}{layers}{seed}", **values)
                fake_layers(run, [2.0**-layer for layer in range(layers + 1)])
                fake_influence(run, [0.5**hop for hop in range(1, layers + 2)])
                fake_embeddings(run, [0, layers])
                fake_epochs(run, [2 / (1 + epoch) for epoch in range(20)])
                phases = [{"phase": phase, "peak_mib": 7.25 * layers} for phase in ("forward", "backward")]
                write_rows(run / "memory.csv", phases, ("phase", "peak_mib"))
    fake_run(folder / "bad", model="gcn", conv="gcn", seed=9, status="diverged", test_score="", error=EVIL)
    fake_status(folder / "killed", status="running", pid=2**22 + 1, started="2026-01-01", run={"model": "gcn"})
    (folder / "foreign.csv").write_text("a,b\n1,2\n")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    assert main([str(study(folder / "runs")), "--out", str(path), "--baseline", "model=gcn", "--title", EVIL]) == 0
    return path


@pytest.fixture(scope="module")
def elements(report):
    found = Elements()
    found.feed(report.read_text(encoding="utf-8"))
    return found


def text_of(elements):
    return re.sub(r"\s+", " ", " ".join(elements.text))


def test_the_page_refers_to_nothing_outside_itself(report, elements):
    assert not re.search(r"https?:", report.read_text(encoding="utf-8"))
    for tag, attributes in elements.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed")
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))


def test_the_page_holds_every_part(elements):
    text = text_of(elements)
    anchors = {attributes.get("id") for _, attributes in elements.tags}
    assert {
        "comparison",
        "depth",
        "layers",
        "embeddings",
        "influence",
        "training",
        "memory",
        "runs",
        "commands",
    } <= anchors
    pictures = [attributes for tag, attributes in elements.tags if tag == "svg"]
    assert len(pictures) == 1 + 8 + 1 + 2 + 2, (
        "depth curves, eight diagnostics, influence, training curves and embeddings of each model"
    )
    for words in (
        "88.25 ± 0.35", "+16.00", "Best depth", "Dirichlet energy", "numerical rank", "gradient norm", "epoch",
        "Who hears whom", "layer 8 · 75 % of the variance", "class 1", "gcnii · layers 8 · seed 0",
        "what the columns mean", "resident memory", "while all nodes become alike", "1: all nodes alike",
        "deepgnn train model=gcnii layers=8 seed=1", "2.13.0", "diverged", "killed", "foreign.csv", "rss", "58",
        "14 runs in 7 groups: 12 ok, 1 diverged, 1 killed",
    ):  # fmt: skip
        assert words in text, words


def test_links_inside_the_page_have_their_target(elements):
    targets = {attributes["id"] for _, attributes in elements.tags if "id" in attributes}
    links = [
        attributes[name] for _, attributes in elements.tags for name in ("href", "xlink:href") if name in attributes
    ]
    assert links
    for link in links:
        assert link.startswith("data:") or link[1:] in targets, link


def test_hostile_text_is_shown_as_text(report, elements):
    assert EVIL not in report.read_text(encoding="utf-8")
    assert text_of(elements).count(EVIL) >= 3, "title, heading and the error of a run"


def seen_by_a_browser(page, folder):
    """The document after its scripts have run."""
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={folder}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_renders_the_page(report, elements, tmp_path):
    shown = seen_by_a_browser(report, tmp_path)
    seen = Elements()
    seen.feed(shown)
    assert text_of(seen).count("88.25 ± 0.35") == text_of(elements).count("88.25 ± 0.35") > 0
    tags = [tag for tag, _ in seen.tags]
    assert tags.count("svg") == 14 and tags.count("tbody") == 6 and "parsererror" not in tags
    assert tags.count("script") == 14 + 1 and "<title>broken" not in shown


ACTS = """<script>
const told = {}, all = (places) => [...document.querySelectorAll(places)];
const find = (places, words) => all(places).find((element) => element.textContent.trim().startsWith(words));
const table = find("table", "test_score by group"), heads = [...table.tHead.rows[0].cells];
const head = heads.findIndex((cell) => cell.textContent === "peak MiB");
heads[head].click(); heads[head].click();
told.sorted = [...table.tBodies[0].rows].map((row) => row.cells[head].textContent);
const field = document.querySelector("#runs input");
field.value = "GCNII ok"; field.dispatchEvent(new Event("input"));
told.left = all("#runs tbody tr").filter((row) => !row.hidden).length;
const off = () => all("#depth [data-series]").filter((series) => series.style.display === "none").length;
const entry = find("#depth [data-legend]", "gcnii"), svg = document.querySelector("#depth svg");
entry.dispatchEvent(new MouseEvent("click", { bubbles: true })); told.off = off();
entry.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })); told.on = off();
const hover = (place, target) => {
  const box = place.getBoundingClientRect(), clientX = (box.left + box.right) / 2, clientY = (box.top + box.bottom) / 2;
  target.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
  return document.querySelector(".tip").hidden ? null : document.querySelector(".tip").textContent;
};
const curve = all("#depth [data-series]").find((series) => series.querySelectorAll("use").length === 3);
told.hover = hover(curve.querySelector("use"), svg);
told.cell = hover(document.querySelector("#layers image"), document.querySelector("#layers svg"));
told.node = hover(document.querySelector("#embeddings [data-series] use"), document.querySelector("#embeddings svg"));
document.body.dataset.told = JSON.stringify(told);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_tables_sort_and_filter_and_figures_tell_and_switch(report, tmp_path):
    page = tmp_path / "acted.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{ACTS}</body>"), encoding="utf-8")
    seen = Elements()
    seen.feed(seen_by_a_browser(page, tmp_path))
    told = json.loads(next(attributes["data-told"] for tag, attributes in seen.tags if tag == "body"))
    assert told["sorted"] == ["80", "80", "40", "40", "20", "20", ""], "the group without a number last"
    assert told["left"] == 6 and told["off"] > 0 == told["on"]
    assert told["hover"] == "gcn\nlayers 2: 78.25 (77.9 to 78.6)"
    assert re.fullmatch(r"gcnii · layers 8\nlayer \d: [\d.]+", told["cell"]) and told["node"] == "class 0"


@pytest.mark.parametrize(
    "rows",
    [
        [{"status": "failed", "test_score": "", "error": "no"}],
        [{"test_score": 0.8}],
        [{"layers": "", "test_score": 0.8}, {"layers": "", "seed": 1, "test_score": 0.9}],
        [{"test_score": 0.8, "dataset": "a"}, {"test_score": 0.9, "dataset": "b"}],
    ],
)
def test_a_report_of_little_is_still_a_page(tmp_path, rows):
    for i, values in enumerate(rows):
        run = fake_run(tmp_path / str(i), **values)
        (run / "layers.csv").write_text("layer,dirichlet_energy\n0,1.0\n1,")
        (run / "epochs.csv").write_text("epoch,train_loss\n")
        (run / "memory.csv").write_text("torn")
    assert main([str(tmp_path), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert 'id="depth"' not in page, "one depth is no curve"


def test_commands_are_quoted_for_a_shell(tmp_path):
    fake_run(tmp_path / "a", overrides="drop.edge=0.1 reported={value: 0.8, source: a b} ~logger")
    main([str(tmp_path), "--out", str(tmp_path / "r.html")])
    found = Elements()
    found.feed((tmp_path / "r.html").read_text())
    assert "deepgnn train drop.edge=0.1 'reported={value: 0.8, source: a b}' '~logger'" in text_of(found)


def test_the_report_must_be_a_page(tmp_path):
    fake_run(tmp_path / "a")
    with pytest.raises(ValueError, match=r"end it in \.html"):
        main([str(tmp_path), "--out", str(tmp_path / "r.pdf")])
