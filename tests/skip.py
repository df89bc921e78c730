"""Tests that need something which is not here: they say so and are skipped, but never in CI."""

import os
import sys

SKIPPED = 77  # SKIP_RETURN_CODE in CMake


def skip(reason):
    """Ends the program: exit 77, or 1 when nothing may be skipped (FILO_SKIP_NOTHING, set by .ci/run)."""
    if os.environ.get("FILO_SKIP_NOTHING"):
        sys.exit(f"FAILED: nothing may be skipped, but {reason}")
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)
