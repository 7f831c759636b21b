"""The commands of docs/recipes.md run in their order as they are written, with a small network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sam2vt import cli
from sam2vt.composing import load_overrides
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.train import train
from tests.unit.core.model.wide_nano import wide_export

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
WEIGHTS = "weights/sam2.1_hiera_base_plus.pt"  # as the page names them, with the small network's content
NANO = ["model=nano", "model.image_size=64", "debug=fast", "trainer.num_overlay_videos=0"]
# Of a width that transformers can express, too.
NANO += [f"model.checkpoint_path={WEIGHTS}", "model.config_path=wide.yaml"]
SMALLER = {
    "model=base_plus": NANO,
    "experiment=card_8gb": NANO,
    "experiment=overfit": ["experiment=overfit", *NANO, "dataset.prompt_types=[mask]"],
    "trainer=gpu": ["trainer=cpu"],
    "hf://facebook/sam2.1-hiera-base-plus": ["runs/mine/checkpoints/last.ckpt"],
    "new_video.mp4": ["my_videos/JPEGImages/sample_00"],
    "clip.mp4": ["my_videos/JPEGImages/sample_00"],
    "480,200": ["20,20"],
}
# Tools of others, and estimates, which other tests make.
ELSEWHERE = re.compile(r"tensorboard|hf |sam2vt estimate")


def recipes() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if not ELSEWHERE.match(line)]


@pytest.mark.cluster  # most of a minute
def test_the_recipes_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my_videos", "my_test_videos", "other_videos"):
        write_sample_data(Path(name), num_videos=2, num_frames=15, size=(48, 64))
    Path(WEIGHTS).parent.mkdir()
    _, weights = wide_export(tmp_path, 64)
    weights.rename(WEIGHTS)
    assert len(recipes()) >= 8
    for program, verb, *words in recipes():
        assert program == "sam2vt"
        words = [small for word in words for small in SMALLER.get(word, [word])]
        if verb == "train":
            assert train(load_overrides(words)).global_step == 2
        else:
            cli.main([verb, *words])
    assert "interval" in capsys.readouterr().out
    runs = {path.parent.name for path in Path("runs").glob("*/results.csv")}
    assert runs >= {"mine", "lower", "averaged", "overfit", "few", "small", "offline"}
