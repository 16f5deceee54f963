"""The help of the access tools: quick, with examples of use, and complete about exit codes."""

import json
import sys
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.kit import command
from tests.support.command_tree import ACCESS_TOOLS

each_tool = pytest.mark.parametrize("words", ACCESS_TOOLS)

SHOW_HELP: Final = """
import contextlib, io, json, sys
from hyperpod_ebs import cli
texts = {}
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.run([*words.split(), "--help"]) == 0
    texts[words] = out.getvalue()
loaded = sorted({"aiobotocore", "aiohttp", "botocore.client", "grpc"} & set(sys.modules))
json.dump({"texts": texts, "loaded": loaded}, sys.stdout)
"""


async def test_no_help_of_the_access_tools_loads_the_aws_sdk() -> None:
    """Loading the SDK takes several times as long as everything else that a help text needs."""
    asked = json.dumps([*ACCESS_TOOLS]).encode()
    shown = json.loads((await command.run([sys.executable, "-c", SHOW_HELP], stdin=asked)).out)

    assert shown["texts"].keys() == ACCESS_TOOLS.keys()
    assert shown["loaded"] == []


@each_tool
def test_each_help_has_an_example_of_the_command(words: str) -> None:
    """The words of the example are those of the command."""
    text = ACCESS_TOOLS[words].app_stack.resolve("help_epilogue")

    assert f"\n  hyperpod-ebs {words}" in text


@each_tool
def test_each_help_lists_the_exit_codes(words: str) -> None:
    text = ACCESS_TOOLS[words].app_stack.resolve("help_epilogue")
    _, _, codes = text.partition("\nExit codes:\n")

    assert {"0", "1", "2", "130"} <= {line.split()[0] for line in codes.splitlines()}


async def test_bash_completes_commands_flags_and_values(tmp_path: Path) -> None:
    """Bash calls the function of the script with the words of the line."""
    script = tmp_path / "completion.bash"
    script.write_text((await command.run([sys.executable, "-m", "hyperpod_ebs.cli", "completion", "bash"])).out)

    async def completions(*typed: str) -> set[str]:
        line = f'source "{script}"; COMP_WORDS=(hyperpod-ebs {" ".join(typed)}); COMP_CWORD={len(typed)}; _hyperpod_ebs'
        return {*(await command.run(["bash", "-c", f'{line}; echo "${{COMPREPLY[@]}}"'])).out.split()}

    assert await completions("comp") == {"completion"}
    assert await completions("volume", "l") == {"list"}
    assert await completions("volume", "list", "--clu") == {"--cluster"}
    assert await completions("completion", "z") == {"zsh"}
