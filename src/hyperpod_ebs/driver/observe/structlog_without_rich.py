"""Load structlog without rich: a driver process draws no boxes, and need not pay 10 MiB and 0.2 s for them."""

import sys
from importlib import import_module


def load() -> None:
    """Import structlog as if rich were not installed; later imports of rich work as ever.

    structlog draws tracebacks with rich wherever that can be imported (`structlog.dev`, `structlog.tracebacks`).
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's own way to say "not to be imported"
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]
