"""What a running cluster says of itself, in a file in its directory: how to speak to it, and who holds it."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

import aiohttp

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.sandbox import sandbox
from localcluster.machines.life import Life

_FILE: Final = "cluster.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node, and the process that holds its namespaces."""

    name: str
    instance: str
    provider_id: str
    number: int
    holder: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A cluster; without a kubeconfig it is still coming up."""

    directory: str
    holder: Life
    """The process that holds it: SIGTERM ends all in order."""
    kubectl: str
    kubeconfig: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What an AWS CLI or SDK needs to talk to the cloud from the machine."""
    nodes: tuple[NodeRecord, ...] = ()
    """Those of HyperPod first."""

    def write(self) -> None:
        """Put it where others find it; it has the cloud's keys in it, so for the owner alone."""
        file = Path(self.directory) / _FILE
        unready = file.with_suffix(".new")
        unready.touch(mode=0o600)
        unready.write_text(json.dumps(asdict(self)))
        unready.rename(file)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """That of the cluster in `directory`.

        Raises:
            OSError: There is none.
        """
        return cls.parse((directory / _FILE).read_text())

    @classmethod
    def parse(cls, text: str) -> Self:
        """That which `write` has written."""
        said = json.loads(text)
        nodes = tuple(NodeRecord(**node) for node in said["nodes"])
        return cls(**{**said, "holder": Life(**said["holder"]), "nodes": nodes})

    @asynccontextmanager
    async def cloud(self) -> AsyncGenerator[EmulatorClient]:
        """Its cloud, to be spoken to."""
        async with aiohttp.ClientSession(self.environment["AWS_ENDPOINT_URL"]) as http:
            yield EmulatorClient(Path(self.directory) / "cloud", self.environment, http)


def directories(name: str) -> list[Path]:
    """Those of clusters called `name`, held or abandoned."""
    return sorted(sandbox.parent_directory().resolve().glob(f"{name}-*"))


def found(name: str) -> Iterator[Record]:
    """The clusters called `name`, held or abandoned.

    Without those whose holder has yet to write its record, or has written it as another version does.
    """
    for directory in directories(name):
        with suppress(FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
            yield Record.read(directory)
