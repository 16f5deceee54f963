"""Checkpoints in a directory, of which the last complete one counts.

A checkpoint is a file whose first line is the digest of the rest. It comes into being
whole (see `durable`), so that a torn one takes a disk that lies or a person; it is then
passed over, and so is one that came from elsewhere half copied.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import durable
from network import Network

KEPT: Final = 3
"""Checkpoints that stay, whole ones; older ones go."""

_NAME: Final = re.compile(r"step-(\d{9})\.ckpt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training was."""

    step: int
    network: Network


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Have it on the disk, and older ones not for ever.

    What claims to be of a later step is left: it is no checkpoint of this training, which has not been there.
    """
    body = json.dumps({"step": checkpoint.step, "network": json.loads(checkpoint.network.text())}).encode()
    path = directory / f"step-{checkpoint.step:09d}.ckpt"
    durable.write(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    until_now = [one for one in sorted(_all(directory)) if one.name <= path.name]
    *_, first_kept = [one for one in reversed(until_now) if _body(one) is not None][:KEPT]
    for old in until_now[: until_now.index(first_kept)]:
        old.unlink()
    return path


def last(directory: Path) -> Checkpoint | None:
    """The latest one that is complete; what is passed over is said."""
    for path in sorted(_all(directory), reverse=True):
        if (body := _body(path)) is not None:
            found = json.loads(body)
            return Checkpoint(found["step"], Network(**found["network"]))
        durable.say(event="passed over", checkpoint=path.name, reason="it is not what was written")
    return None


def _body(path: Path) -> bytes | None:
    """What a checkpoint holds; nothing, where it is not what was written."""
    stated, _, body = path.read_bytes().partition(b"\n")
    return body if hashlib.sha256(body).hexdigest().encode() == stated else None


def _all(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
