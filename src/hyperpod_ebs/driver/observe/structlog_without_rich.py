"""Load structlog without rich, which a driver process never uses and which costs 10 MiB and 0.2 s."""

import sys
from importlib import import_module


def load() -> None:
    """Import structlog as if rich were not installed; later imports of rich work as usual.

    structlog renders tracebacks with rich if it can be imported (`structlog.dev`, `structlog.tracebacks`).
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's way to make an import fail
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]
