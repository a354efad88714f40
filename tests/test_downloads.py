"""Servers that misbehave are left in time, and the next one is asked."""

import io
import socket
import socketserver
import tarfile
import threading
from hashlib import md5
from itertools import chain, repeat

import pytest
from torchvision.datasets import CIFAR10

from peeklib.course.data import downloads, originals

OK = b"HTTP/1.1 200 OK\r\n"


class Answer(socketserver.StreamRequestHandler):
    """Sends the parts of the server's answer, one every hundredth of a second."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        for part in self.server.answer:
            try:
                self.wfile.write(part)
            except OSError:
                return
            if self.server.over.wait(0.01):
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answer = answer
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


@pytest.fixture
def serve(monkeypatch):
    """Makes servers of answers; no threads stay."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1].url

    monkeypatch.setattr(downloads, "MOST", 50_000)
    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()
    for thread in threading.enumerate():
        if isinstance(thread, downloads._Transfer):
            thread.join()


DRIPS = {
    "silent": lambda: repeat(b""),
    "drips": lambda: chain([OK, b"Content-Length: 999\r\n\r\n"], repeat(b"x")),
    "drips before it begins": lambda: chain([OK, b"X: "], repeat(b"x")),
    "drips between": lambda: chain([OK, b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"0")),
    "starts well and then drips": lambda: chain([OK, b"\r\n", bytes(20_000)], repeat(b"x")),
}


@pytest.mark.parametrize("answer", DRIPS.values(), ids=DRIPS)
def test_a_slow_server_is_left(serve, monkeypatch, tmp_path, answer):
    monkeypatch.setattr(downloads, "PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match=r"only .* bytes came in 0\.2 s"):
        downloads._fetch(serve(answer()), tmp_path / "it")


def test_of_a_silent_server_a_word_is_not_waited_for(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.1)
    with pytest.raises(TimeoutError, match="timed out"):
        downloads._fetch(serve(repeat(b"")), tmp_path / "it")


CUT = [OK, b"Content-Length: 1000\r\n\r\n", bytes(10)]
FAULTS = {
    "breaks off": (CUT, "only 10 of 1,000 bytes came"),
    "has no end": ([OK, b"\r\n", *repeat(bytes(9000), 99)], "more than 50,000 bytes came"),
    "leads to a file": (
        [b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n"],
        "file:///etc/hostname' is not allowed",
    ),
    "has nothing": ([b"HTTP/1.1 404 Not Found\r\n\r\n"], "404"),
    "talks of other things": ([b"220 mail ready\r\n"], "220 mail"),
}


@pytest.mark.parametrize(("answer", "words"), FAULTS.values(), ids=FAULTS)
def test_a_server_that_gives_something_else_is_left(serve, tmp_path, answer, words):
    with pytest.raises((OSError, ValueError, downloads.HTTPException), match=words):
        downloads._fetch(serve(answer), tmp_path / "it")


def archive():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as files:
        files.addfile(tarfile.TarInfo("batches/a"))
    return packed.getvalue()


def test_the_next_server_is_asked(serve, monkeypatch, tmp_path):
    true = archive()
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(true).hexdigest())
    answers = [CUT, [OK, b"\r\n<html>moved</html>"], [OK, b"\r\n", true]]
    some = originals.Original("CIFAR10", "batches", ("a",), "batches", tuple(map(serve, answers)))
    downloads.download(some, tmp_path / "cache")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["a"]
    bad = originals.Original("CIFAR10", "batches", ("a",), "batches", some.mirrors[:2])
    with pytest.raises(ConnectionError, match="only 10 of .*begins with b'<html>"):
        downloads.download(bad, tmp_path / "other")


def test_a_dead_link_among_what_downloads_left_stops_none(monkeypatch, tmp_path):
    (tmp_path / f"{downloads.PART}0").symlink_to(tmp_path / "nowhere")
    (tmp_path / f"{downloads.PART}1").mkdir()
    monkeypatch.setattr(downloads, "LEFT", -10)
    downloads._tidy(tmp_path)
    assert not (tmp_path / f"{downloads.PART}1").exists()


def test_what_a_killed_download_left_goes(monkeypatch, tmp_path):
    (tmp_path / f"{downloads.PART}0").mkdir()
    monkeypatch.setattr(downloads, "LEFT", -10)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    with pytest.raises(ConnectionError):
        downloads.download(originals.ORIGINALS["mnist"], tmp_path)
    assert not list(tmp_path.iterdir())
