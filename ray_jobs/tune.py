"""Run a sweep on Ray: python ray_jobs/tune.py sweep=CHOICE [NAME=VALUE ...]

It takes the overrides of `sam2vt train` and a sweep of configs/sweep with its own settings, which
docs/settings.md lists, such as

    python ray_jobs/tune.py sweep=joint sweep.num_trials=8 dataset.data_path=videos output_dir=runs/mine
    ray job submit -- python ray_jobs/tune.py sweep=pbt ray=cluster dataset.data_path=/shared/videos

Without a cluster (ray.address, RAY_ADDRESS) it starts Ray on this machine. Exit codes: 0 done,
2 unusable configuration or data, 3 no trial ran to its end; 143 after SIGTERM, 130 after
Ctrl-C, 129 after SIGHUP: resume=auto resumes the sweep.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from sam2vt.composing import load_overrides
from sam2vt.configuration.sweep import load_sweep
from sam2vt.errors import exit_on_error
from sam2vt.logs import opening_line, setup_logging
from sam2vt.run_folder import own_run_folder

log = logging.getLogger("sam2vt.ray_jobs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compose and check on the driver; run the sweep; print the summary."""
    given = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(given):
        return print(str(__doc__).strip())
    with exit_on_error(), own_run_folder(given) as placed:
        sweep = load_overrides(placed, load=load_sweep)
        config = sweep.base.unswept()
        setup_logging(config.log_level)
        log.info("sweep of %s: %s", ", ".join(sweep.space.fields), opening_line(config, by_ray=True))
        from sam2vt.distributed.sweep.launch import run_sweep  # a bad configuration need not wait for Ray
        from sam2vt.distributed.sweep.outputs import summary

        print(f"\n{summary(run_sweep(sweep))}")


if __name__ == "__main__":
    main()
