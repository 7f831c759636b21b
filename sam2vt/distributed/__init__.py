"""Where the steps of a run happen on a Ray cluster; the only package, with `ray_jobs`, that imports Ray."""
