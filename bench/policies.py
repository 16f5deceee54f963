"""Measure the time of a decision about a request, with policies of ten statements.

The requests and policies are the random ones of the tests. Policies are compiled before, as in the emulator.

    .venv/bin/python -m bench.policies --cases 500
"""

import argparse
import statistics
import sys
import time
from typing import Final

from hyperpod_ebs.iam.decision import decide
from tests.support.policy_cases import CaseMaker, policies, request

LIMIT: Final = 50.0
"""Microseconds that the median may take."""

_STATEMENTS: Final = 10
_REPEATS: Final = 20


def main() -> int:
    """Measure, print, and exit with 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="requests to decide about")
    parser.add_argument("--seed", type=int, default=1, help="seed of the requests")
    options = parser.parse_args()
    maker = CaseMaker(options.seed)
    times = []
    for _ in range(options.cases):
        case = maker.long_case(_STATEMENTS)
        asked, compiled = request(case), policies(case)
        decide(asked, compiled)
        begin = time.process_time()
        for _ in range(_REPEATS):
            decide(asked, compiled)
        times.append((time.process_time() - begin) * 1e6 / _REPEATS)
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    sys.stdout.write(f"a decision takes {median:.1f} us at the median, {p95:.1f} us at the 95th percentile\n")
    return int(median > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
