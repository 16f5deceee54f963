"""The page of errors is complete: each code, kind and message has a cause and a fix, and no other has a row."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import error_catalogue
from error_texts import BY_AWS_CODE, BY_GRPC_CODE, BY_KIND, WITHOUT_CODE

from hyperpod_ebs.driver.aws.errors import BY_CODE
from hyperpod_ebs.driver.csi import status
from hyperpod_ebs.driver.model import errors
from tests.support.source_texts import source_texts

ROOT: Final = Path(__file__).parents[2]


def every_error(root: type[errors.Error] = errors.Error) -> Iterator[type[errors.Error]]:
    """All classes of the tree below `root`."""
    for cls in root.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from every_error(cls)


def test_each_code_of_aws_has_cause_and_fix() -> None:
    """A code that the driver learns gets its row with it."""
    assert BY_AWS_CODE.keys() == BY_CODE.keys()


def test_each_kind_of_error_has_cause_and_fix() -> None:
    """The kinds are the tree of errors, and the other exceptions that have a gRPC code or a code of AWS."""
    assert BY_KIND.keys() == {*every_error(), *status.CODES, *BY_CODE.values()}


def test_each_grpc_code_of_the_driver_has_meaning_and_fix() -> None:
    """INTERNAL is in no table: it is the code of a bug."""
    used = {*status.CODES.values(), *(code for codes in status.IN_CALL.values() for code in codes.values())}

    assert BY_GRPC_CODE.keys() == {*used, status.code_for(RuntimeError())}


def test_each_message_without_a_code_is_in_the_source() -> None:
    """A user looks for the text that a program wrote."""
    texts = list(source_texts())

    assert [row.text for row in WITHOUT_CODE if not any(row.text in text for text in texts)] == []


def test_each_text_is_a_cell_of_a_table() -> None:
    """Causes are sentences without their full stop; a bar would end the cell."""
    texts = [*BY_AWS_CODE.values(), *BY_KIND.values(), *BY_GRPC_CODE.values()]
    cells = [*(cell for text in texts for cell in text), *(cell for row in WITHOUT_CODE for cell in row)]

    assert [cell for cell in cells if not re.fullmatch(r"[^|\n]+[^.|\n]", cell)] == []
    assert [text.cause for text in texts if not text.cause[0].isupper()] == []


def test_the_page_has_each_code_and_kind() -> None:
    page = error_catalogue.page()

    assert [code for code in BY_CODE if f"`{code}`" not in page] == []
    assert [cls.__name__ for cls in every_error() if f"| `{cls.__name__}` |" not in page] == []
    assert page == (ROOT / error_catalogue.PAGE).read_text(), "run make generate"
