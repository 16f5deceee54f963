"""A model store on a volume: `fetch` adds a model, and `serve` loads the current model and answers requests.

A model becomes current only when it is complete, and the previous model stays until then: a
server that starts during a fetch loads the previous model.
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

import atomic_file
import events
import file_set
import shutdown

CURRENT: Final = "current"
"""The file with the name of the current model."""

FILE_MIB: Final = 16
"""Size of one file of a model."""


def fetch(directory: Path, name: str, mib: int) -> None:
    """Write the model, make it current, and delete models older than the previous one.

    This example generates the model; a real program downloads it.
    """
    began = time.monotonic()
    previous = _current(directory)
    model = _write_or_replace(directory / name, mib)
    atomic_file.write(directory / CURRENT, name.encode())
    for old in directory.iterdir():
        if old.is_dir() and old.name not in {name, previous, "lost+found"}:
            shutil.rmtree(old)
    seconds = round(time.monotonic() - began, 3)
    events.report(event="fetched", model=name, bytes=model.size, digest=model.digest, seconds=seconds)


def _write_or_replace(directory: Path, mib: int) -> file_set.FileSet:
    """Write the model; a damaged model is deleted and written again."""
    try:
        return _write(directory, mib)
    except file_set.Damaged as damaged:
        events.report(event="damaged", reason=str(damaged))
    # Rename it first: the remaining files of an interrupted deletion would count as complete.
    deleted = directory.with_name(f"{directory.name}.damaged")
    shutil.rmtree(deleted, ignore_errors=True)
    directory.rename(deleted)
    atomic_file.sync_directory(directory.parent)
    shutil.rmtree(deleted)
    return _write(directory, mib)


def _write(directory: Path, mib: int) -> file_set.FileSet:
    # The content depends on the name, so two models with the same name are equal.
    seed = int.from_bytes(directory.name.encode(), "big")
    return file_set.write(directory, files=max(1, mib // FILE_MIB), mib=min(mib, FILE_MIB), seed=seed)


def serve(directory: Path, port: int) -> int:
    """Load the current model, and answer requests until a signal."""
    shutdown.block_signals()
    began = time.monotonic()
    name = _current(directory)
    if name is None:
        events.report(event="refused", reason=f"{directory} has no current model: fetch one first")
        return 1
    try:
        model = file_set.read(directory / name)
    except file_set.Damaged as damaged:
        events.report(event="damaged", reason=str(damaged))
        return 1
    facts = {"model": name, "bytes": model.size, "digest": model.digest}
    server = ThreadingHTTPServer(("", port), partial(_ModelHandler, json.dumps(facts).encode()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    events.report(event="serving", port=server.server_port, seconds=round(time.monotonic() - began, 3), **facts)
    shutdown.wait()
    server.shutdown()
    return 0


class _ModelHandler(BaseHTTPRequestHandler):
    """Answers every GET request with the facts about the loaded model."""

    def __init__(self, text: bytes, *server_arguments: object) -> None:
        self._text = text
        super().__init__(*server_arguments)  # type: ignore[arg-type] # passed on unchanged

    def do_GET(self) -> None:
        """Send the facts."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self._text)))
        self.end_headers()
        self.wfile.write(self._text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Log nothing: probes send a request every few seconds."""


def _current(directory: Path) -> str | None:
    try:
        return (directory / CURRENT).read_text()
    except FileNotFoundError:
        return None


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["fetch", "serve"])
    parser.add_argument("--directory", type=Path, required=True, help="the directory of the models")
    parser.add_argument("--name", default="small", help="fetch: the model's name")
    parser.add_argument("--mib", type=int, default=64, help="fetch: the model's size")
    parser.add_argument("--port", type=int, default=8080, help="serve: the port to listen on; 0 for any free port")
    return parser


def main() -> int:
    """Fetch or serve."""
    options = arguments().parse_args()
    if options.action == "serve":
        return serve(options.directory, options.port)
    fetch(options.directory, options.name, options.mib)
    return 0


if __name__ == "__main__":
    sys.exit(main())
