"""The condition of a process that keeps running although something is wrong.

Every change is logged; probes, metrics and /healthz read it at any time.
"""

import structlog

log = structlog.get_logger()


class Condition:
    """The problems of a process: at most one for each of its parts."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._unknown: set[str] = set()
        """Parts that have not reported yet."""

    def report_unknown(self, part: str, reason: str) -> None:
        """Count a part as unhealthy until its first report. Do not log that, because it is normal at start."""
        self._problems[part] = reason
        self._unknown.add(part)

    def report(self, part: str, problem: str | None) -> None:
        """Record the problem of a part, None if it has none, and log a change."""
        before = None if part in self._unknown else self._problems.get(part)
        self._unknown.discard(part)
        if problem is None:
            self._problems.pop(part, None)
            if before is not None:
                log.info("recovered", part=part, was=before)
        else:
            self._problems[part] = problem
            if problem != before:
                log.warning("unhealthy", part=part, why=problem)

    def problem_of(self, part: str) -> str | None:
        """The problem of a part; None if it has none."""
        return self._problems.get(part)

    def __str__(self) -> str:
        """All problems in one line; empty if there are none."""
        return "; ".join(self._problems.values())
