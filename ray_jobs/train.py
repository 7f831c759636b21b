"""Train on Ray: python ray_jobs/train.py [NAME=VALUE ...]

It takes the overrides of `sam2vt train`, which docs/settings.md lists, such as

    python ray_jobs/train.py experiment=demo dataset.data_path=videos output_dir=runs/mine ray.num_workers=4
    ray job submit -- python ray_jobs/train.py ray=cluster dataset.data_path=/shared/videos

Without a cluster (ray.address, RAY_ADDRESS) it starts Ray on this machine. `sam2vt train ... --cfg job`
prints the configuration that overrides give. Exit codes: 0 done, 2 unusable configuration or data, 3 training
failed; 143 after SIGTERM, 130 after Ctrl-C and 129 after SIGHUP, once the workers have saved. A second signal
ends it at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from sam2vt.composing import load_overrides
from sam2vt.errors import exit_on_error
from sam2vt.logs import opening_line, setup_logging
from sam2vt.run_folder import own_run_folder

log = logging.getLogger("sam2vt.ray_jobs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compose on the driver, whose paths are the user's; train; print the summary."""
    given = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(given):
        return print(str(__doc__).strip())
    with exit_on_error(), own_run_folder(given) as placed:
        config = load_overrides(placed)
        setup_logging(config.log_level)
        log.info("%s", opening_line(config, by_ray=True))
        from sam2vt.distributed.launch import fit  # a bad configuration need not wait for Ray

        print(f"\n{fit(config)}")


if __name__ == "__main__":
    main()
