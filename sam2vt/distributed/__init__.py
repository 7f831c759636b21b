"""Training on a Ray cluster; only this package and `ray_jobs` import Ray.

Imports run one way: cluster, board, stream -> feature_cache -> source -> worker -> launch -> sweep. Modules
that the own processes of Ray import load no torch: stream.plan, start, decode and wire, worker.entry.
"""
