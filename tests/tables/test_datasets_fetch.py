"""What can go wrong while a public file is fetched, tried against a server on this machine, a full disk and a second program."""
import errno
import hashlib
import http.server
import multiprocessing
import os
import random
import shutil
import stat
import subprocess
import threading
import time
import types

import pytest

import dlagg.course.home as home_module
from dlagg.tables import datasets_fetch, datasets_public
from dlagg.tables.datasets_fetch import DownloadError, Entry, registry

BODY = random.Random(0).randbytes(300_000)
ENTRY = Entry("some.bin", len(BODY), hashlib.sha256(BODY).hexdigest(), "http://127.0.0.1:9/some.bin", "noise")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `BODY`, well or badly; `server.manner` says how, one word a request, the last one for all that follow."""

    def do_GET(self):
        self.server.asked += 1
        manner = self.server.manner[min(self.server.asked, len(self.server.manner)) - 1]
        getattr(self, manner)()

    def send(self, body, length=None, code=200):
        self.send_response(code)
        if length is not False:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        self.send(BODY)

    def slow(self):
        time.sleep(0.3)
        self.send(BODY)

    def truncated(self):
        self.send(BODY[:100_000], length=len(BODY))

    def short(self):
        self.send(BODY[:100_000])

    def short_without_length(self):
        self.send(BODY[:100_000], length=False)

    def changed(self):
        self.send(BODY[:-1] + b"?")

    def login_page(self):
        self.send(b"<html>Please log in</html>")

    def endless(self):
        self.send(BODY + BODY, length=False)

    def missing(self):
        self.send(b"no", code=404)

    def busy(self):
        self.send(b"later", code=503)

    def hangs_up(self):
        self.connection.shutdown(2)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server, an empty home, and `DLAGG_MIRROR` naming the server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.manner = 0, ["good"]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DLAGG_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(datasets_fetch.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "home" / "data"


def left_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_good(server, cache):
    assert datasets_fetch._fetch(ENTRY).read_bytes() == BODY
    assert datasets_fetch._fetch(ENTRY) == cache / "some.bin"
    assert server.asked == 1 and left_in(cache) == ["some.bin"]


def test_registered_address_is_used_without_a_mirror(server, cache, monkeypatch):
    monkeypatch.delenv("DLAGG_MIRROR")
    entry = ENTRY._replace(address=f"http://127.0.0.1:{server.server_port}/anything")
    assert datasets_fetch._fetch(entry).read_bytes() == BODY


@pytest.mark.parametrize("manner, says", [
    ("truncated", "broke off"),
    ("short", "only 100,000 of 300,000 bytes"),
    ("short_without_length", "only 100,000 of 300,000 bytes"),
    ("changed", "another content"),
    ("login_page", "only 26 of 300,000 bytes"),
    ("endless", "longer than the 300,000 bytes"),
    ("missing", "answered 404"),
    ("busy", "answered 503"),
    ("hangs_up", "no connection"),
])
def test_bad_server(server, cache, manner, says):
    server.manner = [manner]
    with pytest.raises(DownloadError, match=says) as caught:
        datasets_fetch._fetch(ENTRY)
    message = str(caught.value)
    assert "some.bin" in message and "DLAGG_MIRROR" in message and str(cache / "some.bin") in message and ENTRY.address in message
    assert "\n" not in message
    assert left_in(cache) == []
    assert server.asked == (1 if manner == "missing" else 3)


@pytest.mark.parametrize("manner", ["truncated", "short", "changed", "busy", "hangs_up"])
def test_second_attempt_mends(server, cache, manner):
    server.manner = [manner, "good"]
    assert datasets_fetch._fetch(ENTRY).read_bytes() == BODY
    assert server.asked == 2 and left_in(cache) == ["some.bin"]


def test_offline(server, cache):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="no connection .* offline"):
        datasets_fetch._fetch(ENTRY)
    assert left_in(cache) == []


def test_damaged_cache_is_replaced(server, cache):
    cache.mkdir(parents=True)
    (cache / "some.bin").write_bytes(BODY[:-1] + b"?")
    assert datasets_fetch._fetch(ENTRY).read_bytes() == BODY


def test_damaged_cache_does_not_stay_when_offline(server, cache):
    cache.mkdir(parents=True)
    (cache / "some.bin").write_bytes(BODY[:1000])
    server.manner = ["missing"]
    with pytest.raises(DownloadError):
        datasets_fetch._fetch(ENTRY)
    assert left_in(cache) == []


def test_old_drafts_go_and_young_ones_stay(server, cache):
    cache.mkdir(parents=True)
    old, young = cache / ".some-0123abcd.bin", cache / ".some-4567abcd.bin"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    datasets_fetch._fetch(ENTRY)
    assert left_in(cache) == [".some-4567abcd.bin", "some.bin"]


def test_disk_full_while_writing(server, cache, monkeypatch):
    def full(self, block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(datasets_fetch._Checked, "write", full)
    with pytest.raises(DownloadError, match="disk is full: it takes 300,000 bytes.*DLAGG_HOME"):
        datasets_fetch._fetch(ENTRY)
    assert left_in(cache) == [] and server.asked == 1


def test_disk_full_is_seen_before(server, cache, monkeypatch):
    usage = shutil.disk_usage(cache.parents[1])
    monkeypatch.setattr(datasets_fetch.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DownloadError, match="disk is full"):
        datasets_fetch._fetch(ENTRY)
    assert server.asked == 0 and left_in(cache) == []


def test_a_disk_that_is_really_full(server, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("this user may not mount a small disk; the same fault is simulated in test_disk_full_while_writing")
    try:
        monkeypatch.setenv("DLAGG_HOME", str(small))
        for lie in (False, True):       # the second time nobody looks at the free space before
            if lie:
                monkeypatch.setattr(datasets_fetch.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10**9))
            with pytest.raises(DownloadError, match="disk is full"):
                datasets_fetch._fetch(ENTRY)
            assert left_in(small / "data") == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot write into .*DLAGG_HOME"):
        datasets_fetch._fetch(ENTRY)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_cache_without_permission(server, cache, monkeypatch, code):
    def refuse(path):
        raise OSError(code, os.strerror(code))
    monkeypatch.setattr(home_module, "_draft", refuse)
    with pytest.raises(DownloadError, match=f"cannot write into .*{os.strerror(code)}.*DLAGG_HOME"):
        datasets_fetch._fetch(ENTRY)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere; the fault is simulated in test_cache_without_permission")
def test_read_only_cache_still_serves(server, cache):
    datasets_fetch._fetch(ENTRY)
    cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert datasets_fetch._fetch(ENTRY).read_bytes() == BODY
        with pytest.raises(DownloadError, match="cannot write into"):
            datasets_fetch._fetch(ENTRY._replace(file="other.bin"))
    finally:
        cache.chmod(stat.S_IRWXU)


def fetch_in_another_program(home, mirror, answers):
    os.environ |= {"DLAGG_HOME": home, "DLAGG_MIRROR": mirror}
    answers.put(datasets_fetch._fetch(ENTRY).read_bytes() == BODY)


def test_two_programs_at_once(server, cache, tmp_path):
    server.manner = ["slow"]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    programs = [context.Process(target=fetch_in_another_program, args=(str(tmp_path / "home"), os.environ["DLAGG_MIRROR"], answers)) for _ in range(2)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(60)
    assert [answers.get(timeout=1) for _ in programs] == [True, True]
    assert left_in(cache) == ["some.bin"]


def test_no_address(server, cache, monkeypatch):
    monkeypatch.delenv("DLAGG_MIRROR")
    with pytest.raises(DownloadError, match="retail.dat: it has no public address.*save the file as"):
        datasets_public.fetch_retail_baskets()


def test_mirror_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DLAGG_MIRROR", str(tmp_path))
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "home"))
    with pytest.raises(DownloadError, match="no such file is there"):
        datasets_fetch._fetch(ENTRY)
    (tmp_path / "some.bin").write_bytes(BODY[:10])
    with pytest.raises(DownloadError, match="damaged or another one"):
        datasets_fetch._fetch(ENTRY)
    assert (tmp_path / "some.bin").exists()                    # it is not ours to remove
    (tmp_path / "some.bin").write_bytes(BODY)
    assert datasets_fetch._fetch(ENTRY) == tmp_path / "some.bin"
    assert not (tmp_path / "home").exists()                    # read in place, not copied


def test_registry():
    known = registry()
    assert len(known) == 19
    assert {entry.file for entry in known.values() if not entry.address} == {"retail.dat"}
    assert all(entry.address.startswith("https://") for entry in known.values() if entry.address)


@pytest.fixture
def public(mirror, monkeypatch):
    """The folder of public files, named by `DLAGG_MIRROR`."""
    monkeypatch.setenv("DLAGG_MIRROR", str(mirror))
    return mirror


def test_registry_is_that_of_the_mirror(public):
    for name in registry():
        assert datasets_fetch.fetch_file(name).parent == public


def test_public_tables(public):
    d = datasets_public
    shapes = {"fetch_shoppers": (12330, 18), "fetch_titanic": (891, 11), "fetch_penguins": (344, 17), "fetch_german_credit": (1000, 21),
              "fetch_retail_prices": (676, 30), "fetch_faithful": (272, 2)}
    assert {name: getattr(d, name)().shape for name in shapes} == shapes
    assert d.fetch_shoppers()["Revenue"].sum() == 1908
    assert d.fetch_titanic().isna().sum().sum() == 866 and d.fetch_penguins().isna().sum().sum() == 336
    assert d.fetch_german_credit()["default"].value_counts().to_dict() == {0: 700, 1: 300}
    assert d.fetch_retail_prices()["product_id"].nunique() == 52


def test_online_retail(public):
    lines = datasets_public.fetch_online_retail()
    assert lines.shape == (541909, 8) and lines["CustomerID"].nunique() == 4372 and lines["CustomerID"].isna().sum() == 135080
    assert (lines["Quantity"] < 0).sum() == 10624 and str(lines["InvoiceDate"].min()) == "2010-12-01 08:26:00"


def test_baskets(public):
    groceries, retail = datasets_public.fetch_groceries(), datasets_public.fetch_retail_baskets()
    assert len(groceries) == 9835 and len({item for basket in groceries for item in basket}) == 169
    assert len(retail) == 88162 and len({item for basket in retail for item in basket}) == 16470
    table = datasets_public.fetch_groceries(as_frame=True)
    assert len(table) == sum(map(len, groceries)) and table["basket"].nunique() == 9835


@pytest.mark.parametrize("name, n, last", [("AirPassengers", 144, "1960-12-01"), ("UKDriverDeaths", 192, "1984-12-01"),
                                           ("ausbeer", 218, "2010-04-01"), ("souvenirs", 84, "1993-12-01")])
def test_series(public, name, n, last):
    series = datasets_public.fetch_series(name)
    assert len(series) == n and str(series.index[-1].date()) == last and series.index.freq is not None and series.notna().all()


def test_graphs(public):
    karate, football = datasets_public.fetch_graph("karate"), datasets_public.fetch_graph("football")
    assert (len(karate.nodes), len(karate.edges)) == (34, 78) and (len(football.nodes), len(football.edges)) == (115, 613)
    assert football.nodes["value"].nunique() == 12 and football.nodes.loc[0, "name"] == "BrighamYoung"
    networkx = pytest.importorskip("networkx")
    theirs = networkx.parse_gml((public / "football.gml").read_text(), label="id")
    assert {frozenset(edge) for edge in theirs.edges()} == {frozenset(edge) for edge in football.edges.to_numpy().tolist()}


def test_mnist(public):
    for subset, n in (("train", 60000), ("test", 10000)):
        images, labels = datasets_public.fetch_mnist(subset)
        assert images.shape == (n, 28, 28) and images.dtype == "uint8" and labels.shape == (n,) and set(labels) == set(range(10))
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
