"""How long a case may take. A machine that does other work beside may be given more."""

from __future__ import annotations

import os

LIMIT_SECONDS = int(os.environ.get("SAM2VT_FAULT_LIMIT_SECONDS", 480))
START_SECONDS = LIMIT_SECONDS - 50  # until a run must have come to its first gate
