"""How `sam2vt.config` reads and checks: `reading` types and keys, `values` and `conflicts` the rest."""
