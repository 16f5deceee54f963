"""Write the pages of permissions and policies, which takes minutes: they run each job with each permission missing."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.support import permissions_page, policies_page

ROOT: Final = Path(__file__).parents[2]


async def write_pages(directory: Path) -> None:
    """Make both pages at the same time, and write them.

    Args:
        directory: An empty directory.
    """
    for name in ("permissions", "policies"):
        (directory / name).mkdir()
    async with asyncio.TaskGroup() as group:
        permissions = group.create_task(permissions_page.page(directory / "permissions"))
        policies = group.create_task(policies_page.page(directory / "policies"))
    (ROOT / permissions_page.PAGE).write_text(permissions.result())
    (ROOT / policies_page.PAGE).write_text(policies.result())


def main() -> None:
    """Write the pages."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(write_pages(Path(directory)))


if __name__ == "__main__":
    main()
