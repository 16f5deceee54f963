"""Write the page of permissions, which takes minutes: it runs the driver with each permission missing."""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.support import permissions_page

ROOT: Final = Path(__file__).parents[2]


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as directory:
        text = asyncio.run(permissions_page.page(Path(directory)))
    (ROOT / permissions_page.PAGE).write_text(text)


if __name__ == "__main__":
    main()
