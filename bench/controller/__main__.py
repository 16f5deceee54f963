"""Measure the controller, and a peer's beside it, on the embedded cloud.

    make bench
    make bench ARGS="--peer /usr/local/bin/aws-ebs-csi-driver"

Each measurement starts a new cloud with the same seed, once for our controller and once for the peer's. The cloud has
the state changes and the token buckets of AWS; its history and its counts say what happened. A peer is a program that
takes the flags and the variables of the Go driver's controller. Needs root, for the loop devices of attached volumes.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from bench.controller import measurements
from bench.controller.contender import OUR_CONTROLLER, Contender
from bench.controller.measurement import FULL, QUICK, Result, Scale
from bench.controller.measurements import Measurement, Simulation, run_measurement, run_simulation
from bench.controller.quiet_machine import look_at_machine
from bench.controller.report import document, print_table
from hyperpod_ebs.sandbox.failures import explanation
from hyperpod_ebs.sandbox.interruption import Interruption


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user wants."""

    contenders: Sequence[Contender]
    measurements: Sequence[Measurement | Simulation]
    scale: Scale
    directory: Path | None
    json: Path | None
    prints_json: bool


def parse_options() -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [measurement.name for measurement in measurements.ALL]
    parser.add_argument("--peer", type=Path, help="the program of another controller, which is measured beside ours")
    parser.add_argument("--rows", default=",".join(names), help="what to measure; by default everything: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small numbers without AWS's times: a try, no measurement")
    parser.add_argument("--seed", type=int, default=1, help="seed of the cloud's random durations")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="what to print on stdout")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON document to this file, too")
    parser.add_argument("--directory", type=Path, help="write the bursts' time lines and metrics into this directory")
    words = parser.parse_args()
    wanted = words.rows.split(",")
    if unknown := set(wanted).difference(names):
        parser.error(f"--rows has {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    if words.peer is not None and not words.peer.is_file():
        parser.error(f"--peer {words.peer} is not a file")
    if words.directory is not None:
        words.directory.mkdir(parents=True, exist_ok=True)
    peers = [Contender(name="peer", program=(str(words.peer.resolve()),))] if words.peer else []
    return Options(
        contenders=[OUR_CONTROLLER, *peers],
        measurements=[measurement for measurement in measurements.ALL if measurement.name in wanted],
        scale=replace(QUICK if words.quick else FULL, seed=words.seed),
        directory=words.directory,
        json=words.json,
        prints_json=words.output == "json",
    )


async def run_all(options: Options, report: Callable[[str], None], results: list[Result]) -> None:
    """Run each measurement for one contender after the other, and add its result to `results`."""
    for one in options.measurements:
        match one:
            case Measurement():
                for contender in options.contenders:
                    result = await run_measurement(
                        one, contender, scale=options.scale, directory=options.directory, report=report
                    )
                    results.append(result)
            case Simulation():
                results.append(await run_simulation(one, scale=options.scale, report=report))
            case _:
                assert_never(one)


async def main() -> int:
    """Measure, and print the results, after a failure or Ctrl-C those that there are; the exit code."""
    options, began = parse_options(), time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    machine = await asyncio.to_thread(look_at_machine)
    report(str(machine))
    results: list[Result] = []
    problem = None
    with Interruption.listen() as interruption:
        try:
            async with interruption.scope():
                await run_all(options, report, results)
        except Exception as error:  # noqa: BLE001 - users see a sentence instead of a traceback
            cause = f"stopped by {interruption.cause}" if interruption.cause else explanation(error)
            problem = f"{cause}; everything that was started is cleaned up"
            print(f"bench: {problem}", file=sys.stderr)
        code = interruption.exit_code or int(problem is not None)
    rows = [row for measurement in options.measurements for row in measurement.rows(options.scale)]
    written = document(scale=options.scale, machine=machine, rows=rows, results=results, problem=problem)
    text = json.dumps(written, indent=2) + "\n"
    if options.json is not None:
        options.json.write_text(text)
    if options.prints_json:
        print(text, end="")
    else:
        print(machine)
        print_table(rows, results)
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
