"""A model store: models are fetched onto a volume, and a server loads the current one and answers for it.

A model is current only when it is whole, and the one before it stays until then: a
server that starts in the middle of a fetch loads the old one.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import collection
import durable
import ending

CURRENT: Final = "current"

FILE_MIB: Final = 16
"""Size of one file of a model."""


def fetch(directory: Path, name: str, mib: int) -> None:
    """Have the model, and make it the current one; here it is made up instead of downloaded."""
    began = time.monotonic()
    before = _current(directory)
    made = _made(directory / name, mib)
    durable.write(directory / CURRENT, name.encode())
    for old in directory.iterdir():
        if old.is_dir() and old.name not in {name, before, "lost+found"}:
            shutil.rmtree(old)
    seconds = round(time.monotonic() - began, 3)
    durable.say(event="fetched", model=name, bytes=made.size, digest=made.name, seconds=seconds)


def _made(directory: Path, mib: int) -> collection.Collection:
    """The model in its directory, whole; one that is damaged goes, and is fetched anew."""
    try:
        return _content(directory, mib)
    except collection.Damaged as damaged:
        durable.say(event="damaged", reason=str(damaged))
    # First its name: parts of what is half removed would be taken for whole.
    gone = directory.with_name(f"{directory.name}.damaged")
    shutil.rmtree(gone, ignore_errors=True)
    directory.rename(gone)
    durable.sync_directory(directory.parent)
    shutil.rmtree(gone)
    return _content(directory, mib)


def _content(directory: Path, mib: int) -> collection.Collection:
    # Of the name follows the content: two models of one name are the same.
    files, each = max(1, mib // FILE_MIB), min(mib, FILE_MIB)
    return collection.write(directory, files=files, mib=each, seed=_seed(directory.name))


def serve(directory: Path, port: int) -> int:
    """Load the current model and answer until told to end."""
    ending.heed()
    began = time.monotonic()
    name = _current(directory)
    if name is None:
        durable.say(event="refused", reason=f"{directory} has no current model: fetch one first")
        return 1
    try:
        model = collection.read(directory / name)
    except collection.Damaged as damaged:
        durable.say(event="damaged", reason=str(damaged))
        return 1
    facts = {"model": name, "bytes": model.size, "digest": model.name}
    server = ThreadingHTTPServer(("", port), partial(_Answer, json.dumps(facts).encode()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    durable.say(event="serving", port=server.server_port, seconds=round(time.monotonic() - began, 3), **facts)
    ending.wait()
    server.shutdown()
    return 0


class _Answer(BaseHTTPRequestHandler):
    """What is loaded, whatever is asked."""

    def __init__(self, text: bytes, *of_the_server: object) -> None:
        self._text = text
        super().__init__(*of_the_server)  # type: ignore[arg-type] # handed on as they come

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self._text)))
        self.end_headers()
        self.wfile.write(self._text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's word
        """Say nothing: probes ask every few seconds."""


def _current(directory: Path) -> str | None:
    try:
        return (directory / CURRENT).read_text()
    except FileNotFoundError:
        return None


def _seed(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=["fetch", "serve"])
    parser.add_argument("--directory", type=Path, required=True, help="where the models are")
    parser.add_argument("--name", default="small", help="fetch: the model's name")
    parser.add_argument("--mib", type=int, default=64, help="fetch: the model's size")
    parser.add_argument("--port", type=int, default=8080, help="serve: where to answer; 0 for any")
    return parser


def main() -> int:
    """Fetch or serve."""
    asked = arguments().parse_args()
    if asked.act == "serve":
        return serve(asked.directory, asked.port)
    fetch(asked.directory, asked.name, asked.mib)
    return 0


if __name__ == "__main__":
    sys.exit(main())
