"""Checkpoints of a training in a directory; the training continues from the latest valid one.

The first line of a checkpoint is the digest of the rest. Checkpoints are written atomically
(see `atomic_file`), so a damaged one is rare: a faulty disk, or an incomplete copy from
another directory. Damaged checkpoints are skipped.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import atomic_file
import events
from neural_network import Network

KEPT: Final = 3
"""Valid checkpoints that are kept; older ones are deleted."""

_NAME: Final = re.compile(r"step-(\d{9})\.ckpt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training after a step."""

    step: int
    network: Network


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint, and delete old ones; the checkpoint's file.

    Files with a later step are kept: they are not from this training, which has not reached that step.
    """
    body = json.dumps({"step": checkpoint.step, "network": json.loads(checkpoint.network.text())}).encode()
    path = directory / f"step-{checkpoint.step:09d}.ckpt"
    atomic_file.write(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    until_now = [file for file in sorted(_files(directory)) if file.name <= path.name]
    *_, first_kept = [file for file in reversed(until_now) if _body(file) is not None][:KEPT]
    for old in until_now[: until_now.index(first_kept)]:
        old.unlink()
    return path


def latest(directory: Path) -> Checkpoint | None:
    """The latest valid checkpoint; reports each damaged one that it skips."""
    for path in sorted(_files(directory), reverse=True):
        if (body := _body(path)) is not None:
            content = json.loads(body)
            return Checkpoint(content["step"], Network(**content["network"]))
        events.report(event="skipped", checkpoint=path.name, reason="its digest does not match its content")
    return None


def _body(path: Path) -> bytes | None:
    """The content of a checkpoint; None if it is damaged."""
    digest, _, body = path.read_bytes().partition(b"\n")
    return body if hashlib.sha256(body).hexdigest().encode() == digest else None


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
