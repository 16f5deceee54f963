"""What is wrong with a process that runs all the same: told to the log when it changes, to a probe whenever it asks."""

import structlog

log = structlog.get_logger()


class Condition:
    """The troubles of a process, by the part that has each."""

    def __init__(self) -> None:
        self._troubles: dict[str, str] = {}
        self._expected: set[str] = set()
        """Parts of which nothing is known yet."""

    def report_unknown(self, part: str, trouble: str) -> None:
        """Keep what is only natural at the start, and tells nobody anything: the log does not hear of it."""
        self._troubles[part] = trouble
        self._expected.add(part)

    def report(self, part: str, trouble: str | None) -> None:
        """Keep what is wrong with a part, None where nothing is; the log hears of it once for each change."""
        before = None if part in self._expected else self._troubles.get(part)
        self._expected.discard(part)
        if trouble is None:
            self._troubles.pop(part, None)
            if before is not None:
                log.info("mended", part=part, was=before)
        else:
            self._troubles[part] = trouble
            if trouble != before:
                log.warning("not well", part=part, why=trouble)

    def __str__(self) -> str:
        """All that is wrong, in one sentence; empty where nothing is."""
        return "; ".join(self._troubles.values())
