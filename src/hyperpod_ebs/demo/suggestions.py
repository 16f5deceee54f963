"""What to try after the demo, as commands that work in the user's directory and environment."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

_STATE: Final = "~/hyperpod-ebs-cloud"
_REPOSITORY_AWS_CLI: Final = Path(".tools/aws-cli/bin/aws")
"""Where the test setup installs the AWS CLI, in the repository."""


def suggestions() -> list[tuple[str, str]]:
    """Three things to try, each with its command."""
    program = _shell_word("hyperpod-ebs", Path(sys.executable).with_name("hyperpod-ebs"))
    has_aws_cli = shutil.which("aws") or _REPOSITORY_AWS_CLI.is_file()
    inspect = (
        f"{_shell_word('aws', _REPOSITORY_AWS_CLI)} ec2 describe-volumes"
        if has_aws_cli
        else f"{program} emulator status --state {_STATE}"
    )
    return [
        ("run an emulator until Ctrl-C", f"{program} emulator run --state {_STATE} --port 4566"),
        ("inspect it from another terminal", f'eval "$({program} emulator env --state {_STATE})" && {inspect}'),
        ("get the demo's measurements as JSON", f"{program} demo --profile instant --output json"),
    ]


def _shell_word(name: str, path: Path) -> str:
    """How to call a program in a shell: by its name if PATH finds it, otherwise by its path."""
    found = shutil.which(name)
    if found and (not path.exists() or Path(found).samefile(path) or name == "aws"):
        return name
    relative = os.path.relpath(path)
    return shlex.quote(relative if not relative.startswith("..") else str(path))
