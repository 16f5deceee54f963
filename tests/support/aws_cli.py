"""The AWS CLI that `make setup` installs, in scripts for a shell."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hyperpod_ebs.kit import command
from tests.support.privileges import skip_or_fail

CLI: Final = Path(__file__).parents[2] / ".tools" / "aws-cli" / "bin" / "aws"


async def run_script(env: Mapping[str, str], script: str, *, home: Path) -> str:
    """Run a script that calls the AWS CLI with these environment variables, and without the user's configuration."""
    if not CLI.exists():
        skip_or_fail(f"the AWS CLI is missing at {CLI}: scripts/setup.sh aws-cli installs it")
    variables = {**env, "HOME": str(home), "PATH": f"{CLI.parent}:{os.environ['PATH']}"}
    words = [f"{name}={value}" for name, value in variables.items()]
    return (await command.run(["env", *words, "sh"], stdin=script.encode())).out
