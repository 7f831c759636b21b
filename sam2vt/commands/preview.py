"""A picture of clips as training draws them: `sam2vt preview`"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.errors import ConfigError


def preview(data: str, out: str, overrides: Sequence[str] = (), num_clips: int = 4) -> Path:
    """Draws the first clips of a training on `data` and writes them as a PNG, a row a clip.

    `overrides` are those of `sam2vt train`. Raises ConfigError or DataError for what cannot be used.
    """
    from sam2vt.core.data.clips.sampling import sample_at
    from sam2vt.core.data.dataset import dataset_from_config
    from sam2vt.core.data.opening import find_records
    from sam2vt.core.evaluation.clip_sheet import draw_sheet

    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: has to end in .png")
    config = _compose(data, overrides)
    records, _ = find_records(config)
    dataset = dataset_from_config(
        config.dataset, records=records, seed=config.seed, max_objects=config.max_objects
    )
    per_video = max(config.dataset.clips_per_video, -(-num_clips // len(records)))
    keys = [
        sample_at(place, len(records), per_video, config.seed, config.dataset.shuffle)
        for place in range(num_clips)
    ]
    sheet = draw_sheet([dataset[key] for key in keys])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}; name another file") from None
    return path


def _compose(data: str, overrides: Sequence[str]) -> Config:
    composed = compose_config(overrides)
    # Beside the overrides, whose grammar a path need not follow; OmegaConf would still look for ${name}.
    composed.dataset.data_path = re.sub(r"(\\*)\$\{", r"\1\1\\${", data)
    return load_config(composed)
