"""The record of a running cluster: a file in its directory with its process, its nodes and how to use it."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

import aiohttp

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from hyperpod_ebs.sandbox import sandbox
from localcluster.machines.supervised_process import SupervisedProcess

_FILE: Final = "cluster.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node of the cluster."""

    name: str
    instance: str
    provider_id: str
    pid: int
    """The node's first process, which holds its namespaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A cluster; while it is starting, it has no kubeconfig and no nodes."""

    directory: str
    process: SupervisedProcess
    """The process that runs the cluster; SIGTERM stops the cluster."""
    kubectl: str
    kubeconfig: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """The variables that an AWS CLI or SDK on this machine needs to use the emulator."""
    nodes: tuple[NodeRecord, ...] = ()
    """HyperPod nodes come first."""

    def write(self) -> None:
        """Write the file, readable by the owner only, since it contains the emulator's access key."""
        file = Path(self.directory) / _FILE
        temporary = file.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(asdict(self)))
        temporary.rename(file)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The record of the cluster in `directory`.

        Raises:
            OSError: There is none.
        """
        return cls.parse((directory / _FILE).read_text())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The record in the content of a file."""
        fields = json.loads(text)
        nodes = tuple(NodeRecord(**node) for node in fields["nodes"])
        return cls(**{**fields, "process": SupervisedProcess(**fields["process"]), "nodes": nodes})

    @asynccontextmanager
    async def connect_cloud(self) -> AsyncGenerator[EmulatorClient]:
        """A client of the cluster's emulator."""
        async with aiohttp.ClientSession(self.environment["AWS_ENDPOINT_URL"]) as http:
            yield EmulatorClient(Path(self.directory) / "cloud", self.environment, http)


def directories(name: str) -> list[Path]:
    """The directories of clusters called `name`, running or abandoned."""
    return sorted(sandbox.parent_directory().resolve().glob(f"{name}-*"))


def records(name: str) -> Iterator[Record]:
    """The records of clusters called `name`, running or abandoned.

    A cluster without a record is left out: it has not written one yet, or another version wrote it in another form.
    """
    for directory in directories(name):
        with suppress(FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
            yield Record.read(directory)
