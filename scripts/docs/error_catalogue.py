"""The page of all errors: message, cause and fix, made from the tables of codes and from error_texts.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from error_texts import BY_AWS_CODE, BY_GRPC_CODE, BY_KIND, TROUBLESHOOTING, WITHOUT_CODE

from hyperpod_ebs.driver.aws.errors import BY_CODE, SERVER_ERRORS
from hyperpod_ebs.driver.csi import status
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent

PAGE: Final = "docs/reference/errors.md"
HEAD: Final = f"""\
<!-- Made from the tables of error codes by make generate; do not edit. -->

# Errors

A message says what failed, with both values; then why, with AWS's code in parentheses; then what to do next:

```text
cannot attach volume vol-1 to node i-2: the volume is attached to i-3 (VolumeInUse); stop the pod on i-3 first
```

Look up the code in the parentheses in the first table. The driver's messages are in events of Kubernetes and in the log
of the controller; the access tools (`hyperpod-ebs volume` and others) write theirs to stderr. For messages by symptom,
see [troubleshooting]({TROUBLESHOOTING}); for what is refused without a permission, [permissions](permissions.md).

A call that AWS refused has a line in the log, `AWS refused a call`, with the request id for AWS's support.
"""
_SAGEMAKER: Final = """
SageMaker calls EC2 for an attach or a detach, and passes EC2's refusal on in a `ValidationException`. The driver and
the access tools show the code inside, here `VolumeInUse`:

```text
The volume could not be attached. HyperPod - Ec2ErrCode: VolumeInUse : Ec2ErrMsg: vol-1 is already attached to …
```

A code that is not in the table becomes a `CloudError`: the message has AWS's code and text, and the call is repeated.
"""
_KINDS: Final = """
## Kinds of errors

The kind decides the gRPC code that Kubernetes' sidecars and kubelet get.

| kind | cause | fix | gRPC code |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return "".join(
        [
            HEAD,
            "\n## Codes of AWS\n\n| code | cause | fix | kind |\n|---|---|---|---|\n",
            *_aws_rows(),
            _SAGEMAKER,
            "\n## Messages without a code\n\n| message | cause | fix |\n|---|---|---|\n",
            *(f"| {_code(row.text)} | {row.cause} | {row.fix} |\n" for row in WITHOUT_CODE),
            _KINDS,
            *_kind_rows(),
            "\n## gRPC codes\n\n| code | what it means to the caller | what to do |\n|---|---|---|\n",
            *(f"| `{code.name}` | {text.cause} | {text.fix} |\n" for code, text in BY_GRPC_CODE.items()),
        ]
    )


def _aws_rows() -> Iterator[str]:
    """A row for the codes that have cause, fix and kind in common, in the order of their first codes."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for code, kind in sorted(BY_CODE.items()):
        text = BY_AWS_CODE[code]
        rows.setdefault((text.cause, text.fix, _kind(code, kind)), []).append(f"`{code}`")
    yield from (f"| {', '.join(codes)} | {cause} | {fix} | {kind} |\n" for (cause, fix, kind), codes in rows.items())


def _kind(code: str, kind: type[Exception]) -> str:
    """The driver's error for a code."""
    of_creates = f"; `{errors.OutcomeUnknown.__name__}` for a create" if code in SERVER_ERRORS else ""
    return f"`{kind.__name__}`{of_creates}"


def _kind_rows() -> Iterator[str]:
    for kind, text in BY_KIND.items():
        yield f"| `{_name(kind)}` | {text.cause} | {text.fix} | {_codes(kind)} |\n"


def _name(kind: type[BaseException]) -> str:
    """The class's name; with its module's for the one whose name another class has."""
    return f"operations.{kind.__name__}" if kind.__module__.endswith(".operations") else kind.__name__


def _codes(kind: type[BaseException]) -> str:
    """The gRPC code of an error, and the calls in which it is another one."""
    if kind is TokenSpent:
        return "none: it does not reach the caller"
    error = kind.__new__(kind)
    usual = status.code_for(error)
    others: dict[str, list[str]] = {}
    for call in status.IN_CALL:
        if (code := status.code_for(error, call)) is not usual:
            others.setdefault(code.name, []).append(call)
    return "; ".join([f"`{usual.name}`", *(f"`{code}` for {' and '.join(calls)}" for code, calls in others.items())])


def _code(text: str) -> str:
    """Text as code; with double backticks if it has some itself."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def write(root: Path) -> None:
    """Write the page below a directory."""
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(page())
