"""The texts that the package can write, read from its source."""

import ast
import re
from collections.abc import Iterator

from tests.support.guide_commands import ANYTHING, ROOT


def source_texts() -> Iterator[str]:
    """Each string in the package's source, with an ellipsis for each field of an f-string."""
    for file in (ROOT / "src" / "hyperpod_ebs").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.JoinedStr():
                    parts = [str(part.value) if isinstance(part, ast.Constant) else ANYTHING for part in node.values]
                    yield re.sub(f"{ANYTHING}+", ANYTHING, "".join(parts))
                case ast.Constant(value=str(text)):
                    yield text
                case _:
                    pass
