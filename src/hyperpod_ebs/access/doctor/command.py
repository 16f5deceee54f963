"""`hyperpod-ebs doctor`: find out why volumes do not work, or will not."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from cyclopts import App

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.session import ANY_CALLER, AwsOptions, open_aws
from hyperpod_ebs.access.console import Output, agrees, note
from hyperpod_ebs.access.doctor.bundle import check_target, write_bundle
from hyperpod_ebs.access.doctor.checks import run_checks
from hyperpod_ebs.access.doctor.context import Context, Wanted
from hyperpod_ebs.access.doctor.findings import Finding, exit_code, summary
from hyperpod_ebs.access.doctor.registry import ALL_CHECKS
from hyperpod_ebs.access.doctor.report import print_report
from hyperpod_ebs.access.help_texts import epilogue
from hyperpod_ebs.access.kubernetes.reader import CURRENT_CONTEXT, KubernetesOptions, open_reader
from hyperpod_ebs.kit.files import off_loop

_END_OF_HELP: Final = epilogue(
    {
        "hyperpod-ebs doctor": "check everything that can be checked from this machine",
        "hyperpod-ebs doctor --cluster training --role hyperpod-ebs": "one cluster, and this role of the driver",
        "hyperpod-ebs doctor --output json": "the findings for a program",
        "hyperpod-ebs doctor --fix": "make the changes that are safe, after a question for each",
        "hyperpod-ebs doctor --bundle doctor.tar.gz": "also write a file for support, without secrets",
    },
    codes={
        exit_codes.OK: "all is in order",
        1: "the doctor itself failed",
        exit_codes.FAILS: "something fails",
        exit_codes.MAY_FAIL: "something may fail, or could not be checked",
    },
    json=(
        "an object with summary, exitCode, and findings (status, check, object, evidence, consequence, fix, canBeFixed)"
    ),
)
_FIRST_PROGRESS: Final = 1.0
_NEXT_PROGRESS: Final = 5.0

app = App(name="doctor", help_epilogue=_END_OF_HELP)


@app.default
def run_doctor(  # noqa: PLR0913 - each is a flag
    *,
    cluster: str | None = None,
    role: str | None = None,
    namespace: str = "kube-system",
    service_account: str = "ebs-csi-controller-sa",
    fix: bool = False,
    yes: bool = False,
    bundle: Path | None = None,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> int:
    """Find what keeps volumes from working on HyperPod clusters and EC2 nodes, and say how to fix it.

    The doctor reads what AWS and the Kubernetes cluster say, and on a node what the machine says. It changes nothing
    unless --fix is given, and makes nothing that AWS charges for. Run it on a workstation, in the controller's pod or
    on a node; it names once what cannot be checked from there.

    Args:
        cluster: A HyperPod cluster, by name, id or ARN; by default all in the region.
        role: The role of the driver's service account, by name or ARN; by default it is found.
        namespace: The namespace of the driver.
        service_account: The service account of the driver's controller.
        fix: Make the changes that are safe, after asking for each.
        yes: With --fix, do not ask.
        bundle: Write what was found and read, and the driver's logs, to this new file (.tar.gz), without secrets.
        output: A table for people, or one JSON document on stdout.
        aws: Whose credentials are used, and where.
        kubernetes: Which cluster's API server is read.
    """
    wanted = Wanted(cluster=cluster, role=role, namespace=namespace, service_account=service_account)

    async def run() -> int:
        if bundle:
            await off_loop(check_target, bundle)
        async with AsyncExitStack() as stack:
            context = Context(wanted, lambda: open_aws(aws), lambda: open_reader(kubernetes), stack)
            async with _progress() as count:
                findings = await run_checks(ALL_CHECKS, context, on_done=count)
            print_report(findings, output)
            if output == "table":
                note(summary(findings))
            if bundle:
                await write_bundle(bundle, context, findings)
                note(f"wrote {bundle}; secrets were removed, but look through it before you send it")
            if fix:
                await _apply_remedies(findings, yes=yes)
            return exit_code(findings)

    return asyncio.run(run())


async def _apply_remedies(findings: Sequence[Finding], *, yes: bool) -> None:
    """Make each safe change that the user agrees to.

    Raises:
        Declined: There is no terminal to ask on.
        Error: A change fails.
    """
    for finding in findings:
        if finding.remedy and agrees(finding.remedy.question, yes=yes):
            await finding.remedy.apply()
            note(f"{finding.object}: done; run the doctor again to check it")


@asynccontextmanager
async def _progress() -> AsyncGenerator[Callable[[str], None]]:
    """Say on stderr how many checks are finished, if they take longer than a second."""
    done: list[str] = []

    async def report() -> None:
        await asyncio.sleep(_FIRST_PROGRESS)
        while True:
            note(f"{len(done)} of {len(ALL_CHECKS)} checks are finished")
            await asyncio.sleep(_NEXT_PROGRESS)

    async with asyncio.TaskGroup() as tasks:
        reporter = tasks.create_task(report())
        yield done.append
        reporter.cancel()
