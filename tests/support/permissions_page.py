"""The page about the driver's permissions: what is refused without each of them, and what the user reads then.

Every line of it is a result of `missing_permissions`, so a section is equal to the page's, or the page is out of date.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from tests.support import missing_key_permissions
from tests.support.driver_job import STEPS, Step
from tests.support.missing_permissions import OWN_TAGS, ROLE, Job, Refusal
from tests.support.permission_removals import (
    Documents,
    Part,
    Removal,
    parts,
    with_unmet_conditions,
    without,
    without_actions,
    without_conditions,
    without_statements,
)

PAGE: Final = "docs/reference/permissions.md"
FIRST: Final = "AmazonEBSCSIDriverPolicyV2"
KEYS: Final = "Keys"
SECTIONS: Final = (*OWN_TAGS, KEYS)
"""The headings of the generated sections."""

HEAD: Final = """\
<!-- Made by make permissions, which runs the driver with each permission missing; do not edit. -->

# Permissions

What each permission of the driver's role is for: without it, which steps AWS refuses, and what the user reads. Each
statement, action and condition was taken away in turn, and a controller process was called as Kubernetes' sidecars call
it. A refused step succeeds when it is repeated after the permission is given back, and nothing has to be restarted. The
sidecars repeat it on their own, after a pause that doubles with each refusal: at most 30 minutes for new volumes and
snapshots, and 5 minutes for the rest.

The role has one of AWS's three policies for the driver, and the policy `hyperpod-ebs-hyperpod` that
[`hyperpod-ebs policy driver`](command-line.md#hyperpod-ebs-policy-driver) prints, with the statements of
[the installation guide](../guides/install.md#2-the-role). [The page of policies](policies.md) has the same for a role
without AWS's policies. Without the conditions of all statements, each step succeeds too: a condition only limits what
else the role may do.

A static volume in the tables is one that you created, with the tag that the policy requires if it requires one; an
in-tree volume has only the tag `kubernetes.io/created-for/pvc/name`, as volumes of Kubernetes' former plugin have. The
driver created all other volumes for claims.

A message begins with what failed. Then it names the action, the resource and the role, why AWS denied it, and the
statement to add. EC2's encoded message is in the controller's log, in the line `AWS refused a call`, for
`aws sts decode-authorization-message`.

## Where the message is

Kubernetes writes the error into an event or into the status of an object. `ERROR` stands for
`rpc error: code = CODE desc = MESSAGE`, and `QUOTED` for the same in quotes, with a backslash before each quote in it.

| CSI call | object | where | text |
|---|---|---|---|
"""

_MISSING: Final = re.compile(rf"(?P<action>[a-z0-9]+:\w+) on (?P<resource>\S+) is denied to IAM role {ROLE}: ")
_SCOPED: Final = "AmazonEBSCSIDriverEKSClusterScopedPolicy"
_POLLED: Final = "ec2:DescribeVolumes"
"""The start of the actions with which the driver waits for AWS."""

TABLES: Final[Mapping[str, Callable[[Documents], Iterator[Removal]]]] = {
    "statement taken away": without_statements,
    "action taken away": without_actions,
    "condition that is not met": with_unmet_conditions,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Where Kubernetes shows the error of a CSI call."""

    rpc: str
    object: str
    where: str
    text: str
    """The text with the error in it; words in capitals stand for names, ERROR and QUOTED for the error."""

    @property
    def row(self) -> str:
        """The event as a row of a table."""
        return f"| {self.rpc} | {self.object} | {self.where} | `{self.text}` |\n"

    def text_of(self, code: str, message: str, **names: str) -> str:
        """The text with this error and these names."""
        error = f"rpc error: code = {code} desc = {message}"
        text = self.text
        for word, replacement in {**names, "QUOTED": json.dumps(error), "ERROR": error}.items():
            text = text.replace(word, replacement)
        return text


EVENTS: Final = (
    Event(
        rpc="CreateVolume",
        object="PersistentVolumeClaim",
        where="event `ProvisioningFailed`",
        text="ERROR",
    ),
    Event(rpc="DeleteVolume", object="PersistentVolume", where="event `VolumeFailedDelete`", text="ERROR"),
    Event(
        rpc="ControllerPublishVolume",
        object="Pod",
        where="event `FailedAttachVolume`",
        text='AttachVolume.Attach failed for volume "VOLUME" : ERROR',
    ),
    Event(
        rpc="ControllerUnpublishVolume",
        object="VolumeAttachment",
        where="`status.detachError.message`",
        text="ERROR",
    ),
    Event(
        rpc="ControllerExpandVolume",
        object="PersistentVolumeClaim",
        where="event `VolumeResizeFailed`",
        text='resize volume "VOLUME" by resizer "ebs.csi.aws.com" failed: ERROR',
    ),
    Event(
        rpc="ControllerModifyVolume",
        object="PersistentVolumeClaim",
        where="event `VolumeModifyFailed`",
        text="ERROR",
    ),
    Event(
        rpc="CreateSnapshot",
        object="VolumeSnapshot",
        where="`status.error.message`",
        text="Failed to create snapshot: failed to take snapshot of the volume vol-0123456789abcdef0: QUOTED",
    ),
    Event(
        rpc="DeleteSnapshot",
        object="VolumeSnapshotContent",
        where="event `SnapshotDeleteError`; the controller's log has the error",
        text="Failed to delete snapshot",
    ),
)


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """What the user reads when a step lacks a permission."""

    step: str
    missing: str
    """The action, and the kind of its resource."""

    code: str
    text: str

    @classmethod
    def create(cls, step: Step, refusal: Refusal) -> "Message":
        """The message of a refusal.

        Raises:
            AssertionError: It does not name the action, the resource and the role.
        """
        denial = _MISSING.search(refusal.message)
        assert denial, refusal.message
        kind = denial["resource"].rpartition(":")[2].partition("/")[0]
        missing = f"`{denial['action']}`" + ("" if kind == "*" else f" on {_article(kind)}")
        return cls(step.name, missing, refusal.code, refusal.message)

    @property
    def row(self) -> str:
        """The message as a row of a table."""
        code = f"`{self.code}`" if self.code else "none, in the log"
        return f"| {self.step} | {self.missing} | {code} | `{self.text.replace('|', chr(92) + '|')}` |"


@dataclass(kw_only=True)
class Rounds:
    """The rounds of a job, in each of which something is missing."""

    job: Job
    used: Mapping[Step, frozenset[Part]]
    """The actions of statements that allow each step."""

    messages: set[Message] = field(default_factory=set)
    _refused: dict[frozenset[Part], Mapping[Step, Refusal]] = field(default_factory=dict)
    """What was refused without these parts, of those that are used."""

    async def row(self, removal: Removal) -> str:
        """Run the steps that may need what is removed; the row of the table."""
        refused = await self._run(removal)
        by_missing: dict[str, list[str]] = {}
        for step, refusal in refused.items():
            message = Message.create(step, refusal)
            self.messages.add(message)
            by_missing.setdefault(message.missing, []).append(step.title)
        lines = [f"{missing}: {', '.join(titles)}" for missing, titles in by_missing.items()]
        return f"| {removal.what} | {'<br>'.join(lines) or self._why_nothing(removal)} |"

    async def _run(self, removal: Removal) -> Mapping[Step, Refusal]:
        needed = frozenset(part for parts_ in self.used.values() for part in parts_) & removal.parts
        takes_all_away = removal.documents == without(self.job.documents, removal.parts)
        if takes_all_away and needed in self._refused:
            return self._refused[needed]  # it differs only in what no step uses
        is_polled = any(part.action.startswith(_POLLED) for part in removal.parts)
        steps = [step for step, parts_ in self.used.items() if is_polled or parts_ & needed]
        refused = await self.job.run(steps, removal.documents, slowly=is_polled)
        if takes_all_away:
            self._refused[needed] = refused
        return refused

    def _why_nothing(self, removal: Removal) -> str:
        actions = {part.action for parts_ in self.used.values() for part in parts_}
        if removal.is_value or not any(part.action in actions for part in removal.parts):
            return "nothing: the driver does not use it"
        return "nothing: another statement allows the same"


async def policy_section(directory: Path, managed: str, known: str = "") -> str:
    """The section about a policy of AWS and the guide's statement.

    Args:
        directory: An empty directory.
        managed: The policy's name.
        known: A text with messages, which the section leaves out.
    """
    return _section(*await _policy_report(directory, managed), known)


async def _policy_report(directory: Path, managed: str) -> tuple[list[str], list[str]]:
    """The lines of the section before the messages, and the rows of all messages."""
    async with Job.start(directory, managed) as job:
        used, refused = await used_parts(job, managed)
        rounds = Rounds(job=job, used=used)
        actions = {part.action for each in used.values() for part in each}
        unused = [part for part in parts(job.documents) if part.action not in actions]
        lines = [f"## {managed}", "", *_introduction(unused, refused), ""]
        for head, removals in TABLES.items():
            rows = [await rounds.row(removal) for removal in removals(job.documents)]
            lines += [f"| {head} | what is refused |", "|---|---|", *rows, ""]
        assert await job.run([*used], without(job.documents, unused)) == {}
        assert await job.run([*used], without_conditions(job.documents)) == {}
    return lines, [message.row for message in sorted(rounds.messages)]


async def keys_section(directory: Path) -> str:
    """The section about the key policy that the guide of encryption has."""
    async with Job.start(directory, FIRST) as job:
        changed = await missing_key_permissions.all_refusals(job.site)
    texts: dict[tuple[str, str], set[str]] = {}
    rows = []
    for what, refused in changed.items():
        assert refused, what
        for step, refusal in refused.items():
            texts.setdefault((refusal.code, refusal.message), set()).add(step.name)
        rows.append(f"| {what} | {', '.join(step.name for step in refused)} |")
    messages = [
        f"| {', '.join(sorted(names))} | `{code}` | `{text}` |" for (code, text), names in sorted(texts.items())
    ]
    return "\n".join([_KEYS_HEAD, *rows, "", _KEY_MESSAGES_HEAD, *messages, ""])


def section_of(page: str, heading: str) -> str:
    """A section of the page, with its heading."""
    begin = page.index(f"## {heading}\n")
    end = page.find("\n## ", begin)
    return page[begin:] if end < 0 else page[begin:end]


async def page(directory: Path) -> str:
    """The whole page.

    Args:
        directory: An empty directory.
    """
    for name in SECTIONS:
        (directory / name).mkdir()
    async with asyncio.TaskGroup() as group:
        reports = {name: group.create_task(_policy_report(directory / name, name)) for name in OWN_TAGS}
        keys = group.create_task(keys_section(directory / KEYS))
    sections = {name: report.result() for name, report in reports.items()}
    first = _section(*sections.pop(FIRST))
    others = [_section(*report, first) for report in sections.values()]
    return HEAD + "".join(event.row for event in EVENTS) + "\n" + "\n".join([first, *others, keys.result()])


def _section(lines: list[str], messages: list[str], known: str = "") -> str:
    rows = [row for row in messages if row not in known]
    head = _MORE_MESSAGES_HEAD if known else _MESSAGES_HEAD
    return "\n".join([*lines, *([head, *rows, ""] if rows else [])])


_KEYS_HEAD: Final = f"""\
## {KEYS}

The key's policy has the statements that [`hyperpod-ebs policy key`](command-line.md#hyperpod-ebs-policy-key) prints for
the driver's role, which [the encryption guide](../guides/encryption.md) explains: `DescribeKey` and `AttachVolumes`,
which attaching needs, and `CreateVolumesAndRestoreSnapshots`. AWS does not say which of the actions was missing, so the
messages name all.

| the key | what is refused |
|---|---|"""
_KEY_MESSAGES_HEAD: Final = """\
What the user reads:

| steps | gRPC code | message |
|---|---|---|"""
_MESSAGES_HEAD: Final = """\
What the user reads:

| step | missing | gRPC code | message |
|---|---|---|---|"""
_MORE_MESSAGES_HEAD: Final = """\
Messages that the section about `AmazonEBSCSIDriverPolicyV2` does not have:

| step | missing | gRPC code | message |
|---|---|---|---|"""


async def used_parts(job: Job, managed: str) -> tuple[dict[Step, frozenset[Part]], list[Step]]:
    """The actions of statements that allow each step, and the steps that the policy does not allow."""
    used: dict[Step, frozenset[Part]] = {}
    refused = []
    for step in STEPS:
        if managed != _SCOPED and "an instance" in step.of:
            continue
        try:
            used[step] = await job.used_parts(step)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise
            refused.append(step)
    return used, refused


def _introduction(unused: Sequence[Part], refused: Sequence[Step]) -> Iterator[str]:
    actions = sorted({part.action for part in unused})
    yield f"Granted, and not used by this driver: {', '.join(f'`{action}`' for action in actions)}."
    if refused:
        yield ""
        yield f"Not allowed by the policy itself: {', '.join(step.title for step in refused)}."


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
