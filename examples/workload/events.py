"""Events as lines of JSON on standard output, which `kubectl logs` shows."""

import json
import sys


def report(**facts: object) -> None:
    """Print an event, and flush it at once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
