"""The download against servers on the loopback: whole, broken off, resumed, damaged, absent."""

import gzip
import hashlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from adasid_exp.data.amazon_images import IMAGE_RECORD
from adasid_exp.data.download import MANIFEST, main, manifest

BODY = gzip.compress(np.random.default_rng(0).bytes(300_000), mtime=0)
OTHER = gzip.compress(np.random.default_rng(1).bytes(300_000), mtime=0)


class Server(ThreadingHTTPServer):
    """Serves ``bodies``; ``breaks`` says after how many bytes the next answers of a path break off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: dict[str, bytes] = {}
        self.breaks: dict[str, list[int]] = {}
        self.ranges: list[str | None] = []
        self.can_resume = True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.ranges.append(self.headers.get("Range"))
        if path not in self.server.bodies:
            self.send_error(404)
            return
        body, start = self.server.bodies[path], 0
        if self.headers.get("Range") and self.server.can_resume:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cuts = self.server.breaks.get(path)
        self.wfile.write(body[start : start + cuts.pop(0)] if cuts else body[start:])

    def log_message(self, *arguments: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def entry(*urls: str, name: str = "reviews.json.gz", sha256: str | None = None, **more: object) -> dict:
    return {"name": name, "urls": urls, "size": None, "sha256": sha256, "optional": False, **more}


def run(folder: Path, *entries: dict) -> int:
    listed = folder.parent / "manifest.json"
    listed.write_text(json.dumps(entries))
    return main(["--to", str(folder), "--manifest", str(listed)])


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "beauty"


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.part"))


def test_a_file_comes_whole_and_is_recorded(server: Server, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    assert (folder / "reviews.json.gz").read_bytes() == BODY
    digest = hashlib.sha256(BODY).hexdigest()
    record = json.loads((folder / "downloaded.json").read_text())
    assert record == {"reviews.json.gz": {"url": server.url("/r"), "bytes": len(BODY), "sha256": digest}}
    assert f"sha256 {digest}, form checked; no published digest is known" in caplog.text
    assert parts(folder) == []


def test_a_second_run_asks_nobody(server: Server, folder: Path) -> None:
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    asked = len(server.ranges)
    assert run(folder, entry(server.url("/r"))) == 0
    assert len(server.ranges) == asked


def test_a_file_that_changed_since_it_came_is_named(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    (folder / "reviews.json.gz").write_bytes(OTHER)
    assert run(folder, entry(server.url("/r"))) == 1
    assert "reviews.json.gz is damaged" in caplog.messages[-1]
    assert "delete it" in caplog.messages[-1]


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, folder: Path) -> None:
    server.bodies["/r"] = BODY
    server.breaks["/r"] = [100_000, 50_000]
    assert run(folder, entry(server.url("/r"), sha256=hashlib.sha256(BODY).hexdigest())) == 0
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_what_an_earlier_run_left_is_resumed(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "reviews.json.gz.part").write_bytes(BODY[:1234])
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    assert server.ranges == ["bytes=1234-"]
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_a_part_that_is_already_whole_is_accepted(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "reviews.json.gz.part").write_bytes(BODY)
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_a_part_of_another_file_is_thrown_away(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "reviews.json.gz.part").write_bytes(OTHER[:5000])
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"))) == 0
    assert server.ranges == ["bytes=5000-", None]
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_a_server_that_cannot_resume_sends_all_of_it(server: Server, folder: Path) -> None:
    folder.mkdir()
    (folder / "reviews.json.gz.part").write_bytes(BODY[:1234])
    server.bodies["/r"], server.can_resume = BODY, False
    assert run(folder, entry(server.url("/r"))) == 0
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_a_connection_that_breaks_for_good_leaves_a_part_and_no_file(server: Server, folder: Path) -> None:
    server.bodies["/r"] = BODY
    server.breaks["/r"] = [1000, *[0] * 9]
    assert run(folder, entry(server.url("/r"))) == 1
    assert parts(folder) == ["reviews.json.gz.part"]
    assert not (folder / "reviews.json.gz").exists()
    server.breaks.clear()
    assert run(folder, entry(server.url("/r"))) == 0
    assert (folder / "reviews.json.gz").read_bytes() == BODY


def test_the_next_mirror_is_tried(server: Server, folder: Path) -> None:
    server.bodies |= {"/html": b"<html>please log in</html>", "/r": BODY}
    assert run(folder, entry(server.url("/gone"), server.url("/html"), server.url("/r"))) == 0
    assert (folder / "reviews.json.gz").read_bytes() == BODY


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"sha256": "0" * 64}, f"sha256 is {hashlib.sha256(BODY).hexdigest()}, should be 000"),
        ({"size": 5}, "the file has 5"),
    ],
)
def test_a_wrong_digest_or_size_is_refused(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture, wanted: dict, said: str
) -> None:
    server.bodies["/r"] = BODY
    assert run(folder, entry(server.url("/r"), **wanted)) == 1
    assert said in caplog.messages[-1]
    assert not (folder / "reviews.json.gz").exists()
    assert parts(folder) == []


def test_image_features_are_whole_records(server: Server, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.bodies |= {"/i": bytes(2 * IMAGE_RECORD.itemsize), "/short": bytes(IMAGE_RECORD.itemsize - 1)}
    assert run(folder, entry(server.url("/short"), name="images.b")) == 1
    assert "no whole number of records of 16394" in caplog.messages[-1]
    assert run(folder, entry(server.url("/i"), name="images.b")) == 0


def test_without_a_network_one_line_names_the_files_and_the_folder(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/r"
    assert run(folder, entry(nobody), entry(nobody, name="i.b", optional=True)) == 1
    (message,) = caplog.messages
    assert "\n" not in message
    for word in ("refused", "reviews.json.gz", "i.b (optional)", str(folder), "by hand", "make data-beauty"):
        assert word in message


def test_an_absent_file_is_told_apart_from_an_absent_network(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(folder, entry(server.url("/gone"))) == 1
    assert "HTTP 404 Not Found" in caplog.messages[-1]


def test_an_optional_file_that_cannot_be_had_does_not_stop_the_rest(
    server: Server, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.bodies["/r"] = BODY
    entries = [entry(server.url("/gone"), name="i.b", optional=True), entry(server.url("/r"))]
    assert run(folder, *entries) == 0
    assert "i.b could not be fetched, the data can be used without it" in caplog.text


def test_the_shipped_manifest_names_the_three_public_files() -> None:
    files = manifest(MANIFEST)
    assert [file.name for file in files] == [
        "reviews_Beauty_5.json.gz",
        "meta_Beauty.json.gz",
        "image_features_Beauty.b",
    ]
    assert [file.optional for file in files] == [False, False, True]
    assert all(url.endswith(file.name) for file in files for url in file.urls)
