"""What to try next, in commands that work where and how the demo was started."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

_STATE: Final = "~/hyperpod-ebs-cloud"
_NEAR: Final = Path(".tools/aws-cli/bin/aws")
"""Where the set-up for the tests puts the AWS CLI, in the repository."""


def suggestions() -> list[tuple[str, str]]:
    """Three things to try, each with the command for it."""
    ours = _typed("hyperpod-ebs", Path(sys.executable).with_name("hyperpod-ebs"))
    aws = _typed("aws", _NEAR) if shutil.which("aws") or _NEAR.is_file() else None
    look = f"{aws} ec2 describe-volumes" if aws else f"{ours} emulator status --state {_STATE}"
    return [
        ("keep a cloud of your own, until Ctrl-C", f"{ours} emulator run --state {_STATE} --port 4566"),
        ("meanwhile, in another terminal, look into it", f'eval "$({ours} emulator env --state {_STATE})" && {look}'),
        ("see all that the demo measured", f"{ours} demo --profile instant --output json"),
    ]


def _typed(name: str, path: Path) -> str:
    """What to type for a program: its name if that finds it, else its path."""
    found = shutil.which(name)
    if found and (not path.exists() or Path(found).samefile(path) or name == "aws"):
        return name
    near = os.path.relpath(path)
    return shlex.quote(near if not near.startswith("..") else str(path))
