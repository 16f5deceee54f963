"""The command lines that messages name for what to do next, with the profile and the region of this command."""

import os
import shlex

from hyperpod_ebs.access.aws.session import AwsOptions


def command_line(options: AwsOptions, *words: object) -> str:
    """A command line of `hyperpod-ebs volume`; flags that the environment sets as well are left out."""
    flags: list[str] = []
    if options.profile and options.profile != os.environ.get("AWS_PROFILE"):
        flags += ["--profile", options.profile]
    if options.region and options.region not in {os.environ.get("AWS_REGION"), os.environ.get("AWS_DEFAULT_REGION")}:
        flags += ["--region", options.region]
    return shlex.join(["hyperpod-ebs", "volume", *map(str, words), *flags])
