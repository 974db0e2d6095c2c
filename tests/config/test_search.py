"""Spaces as people write them, and what of a command is compared and what is searched."""

import pytest

from deepgnn_cli.config.groups import CONF
from deepgnn_cli.config.search import Choice, Interval, is_space, read_space, search_of, space_of


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("log(1e-4, 1e-1)", Interval(1e-4, 1e-1, log=True)),
        ("uniform(0,0.8)", Interval(0, 0.8)),
        ("int(2, 16)", Interval(2, 16, whole=True)),
        ("choice(32,64, 128)", Choice(("32", "64", "128"))),
    ],
)
def test_a_space_is_read_as_it_is_written(text, space):
    assert space_of("key", text) == space and space_of("key", str(space)) == space and is_space(f"key={text}")


@pytest.mark.parametrize(
    "text",
    ["log(0,1)", "log(1,0.1)", "uniform(1)", "uniform(1,1)", "uniform(0,inf)", "uniform(nan,1)", "int(1.5,3)"]
    + ["choice(a)", "choice(a,a)", "choice(a,,b)", "normal(0,1)", "5"],
)
def test_what_is_no_space_is_refused(text):
    with pytest.raises(ValueError, match="key"):
        space_of("key", text)


def test_models_and_depths_are_compared_and_other_lists_searched():
    axes = {
        "model": ["model=gcn", "model=gcnii"],
        "layers": ["layers=2", "layers=64"],
        "hidden": ["hidden=32", "hidden=64"],
        "seed": ["seed=3"],
    }
    found = search_of(["optimizer.lr=log(1e-4,1e-1)"], axes)
    assert found.space == {"optimizer.lr": Interval(1e-4, 1e-1, log=True), "hidden": Choice(("32", "64"))}
    assert found.arms[1] == ("model=gcn", "layers=64", "seed=3") and len(found.arms) == 4
    assert found.names[1] == "model=gcn layers=64"


def test_what_the_words_fix_is_not_searched():
    found = search_of(["search=optimizer"], {"optimizer.lr": ["optimizer.lr=0.1"]})
    assert list(found.space) == ["optimizer.weight_decay"]
    with pytest.raises(ValueError, match="compared, not searched"):
        search_of(["layers=int(2,64)"], {})
    with pytest.raises(ValueError, match="nothing is searched"):
        search_of([], {"model": ["model=gcn"]})


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "search").glob("*.yaml")])
def test_every_option_is_a_space(name):
    assert read_space(name)


def test_ones_own_space_comes_from_a_folder(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text("# Mine\nhidden: int(4, 8)\n")
    assert read_space("mine", [tmp_path]) == {"hidden": Interval(4, 8, whole=True)}
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        read_space("mien", [tmp_path])
