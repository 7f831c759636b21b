"""Runs the added verb, and finds it in the help."""

import contextlib
import io
import sys
from pathlib import Path

from sam2vt import cli
from sam2vt.core.data.writing.sample_data import write_sample_data

data = Path(sys.argv[1], "data")
write_sample_data(data, num_videos=2, num_frames=3)
out = io.StringIO()
with contextlib.redirect_stdout(out):
    cli.main(["count", str(data)])
    with contextlib.suppress(SystemExit):
        cli.main(["--help"])
assert "2 videos, 6 frames" in out.getvalue()
assert "count the videos" in out.getvalue()
