"""The URL at which clients reach the emulator, which is known once the server listens."""

import asyncio


class Endpoint:
    """The emulator's URL."""

    def __init__(self) -> None:
        self._url = ""
        self._is_known = asyncio.Event()

    def publish(self, url: str) -> None:
        """Set the URL: http://127.0.0.1:4566."""
        self._url = url
        self._is_known.set()

    async def url(self) -> str:
        """The URL; waits until the server listens."""
        await self._is_known.wait()
        return self._url
