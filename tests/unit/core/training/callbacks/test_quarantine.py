from __future__ import annotations

import json
import logging
from datetime import timedelta
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sam2vt.config import Config
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.quarantine import Quarantine, check_share
from sam2vt.errors import TrainingError


def entry(epoch: int, index: int, video: str = "v") -> dict:
    return {"epoch": epoch, "index": index, "video_id": video, "source": "s", "error": f"{video} is broken"}


class Clips(L.LightningDataModule):
    """Batches of two clips; those at `bad` places of each epoch are quarantined."""

    def __init__(self, num_batches: int, bad: dict[int, str], clips_per_epoch: int = 1000) -> None:
        super().__init__()
        self.num_batches, self.bad, self.clips_per_epoch = num_batches, bad, clips_per_epoch

    def train_dataloader(self):
        epoch = self.trainer.current_epoch
        batches = []
        for number in range(self.num_batches):
            batch = {"video_id": ["a", "b"], "frame_indices": [[3], [4]], "target": torch.ones(1)}
            found = [(i, self.bad[i]) for i in (2 * number, 2 * number + 1) if i in self.bad]
            if found:
                batch["quarantined"] = [entry(epoch, i, video) for i, video in found]
                for i, _ in found:
                    batch["frame_indices"][i % 2] = [-1]
            batches.append(batch)
        return torch.utils.data.DataLoader(batches, batch_size=None)


@pytest.fixture
def run(one_weight, tmp_path):
    def run(data: Clips, path, *extra, ckpt_path=None, **settings) -> Quarantine:
        callback = Quarantine(path)
        options = {
            "max_epochs": 2,
            "log_every_n_steps": 2,
            "reload_dataloaders_every_n_epochs": 1,
            **settings,
        }
        trainer = L.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=0,
            callbacks=[callback, *extra],
            default_root_dir=tmp_path,
            **options,
        )
        trainer.fit(one_weight(), datamodule=data, ckpt_path=ckpt_path)
        return callback

    return run


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_used_and_quarantined_add_up(run, tmp_path, caplog) -> None:
    path = tmp_path / "deep" / "quarantine.jsonl"
    with caplog.at_level(logging.INFO):
        callback = run(Clips(5, {3: "x", 8: "y", 9: "y"}), path)
    assert (callback.used, len(callback.entries)) == (2 * (10 - 3), 2 * 3)
    assert lines(path) == [entry(e, i, v) for e in (0, 1) for i, v in ((3, "x"), (8, "y"), (9, "y"))]
    assert "20 clips: 14 used, 6 quarantined" in caplog.text
    assert "y is broken" in caplog.text


def test_without_bad_clips_there_is_no_file(run, tmp_path) -> None:
    (tmp_path / "q.jsonl").write_text("of an earlier run")
    callback = run(Clips(2, {}), tmp_path / "q.jsonl")
    assert callback.used == 8
    assert not (tmp_path / "q.jsonl").exists()


class SaveAt(L.Callback):
    def __init__(self, batch: int, path) -> None:
        self.batch, self.path = batch, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.current_epoch == 0 and batch_idx == self.batch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(("saved_at", "accumulate", "made"), [(0, 1, 1), (3, 1, 4), (4, 3, 3)])
def test_a_checkpoint_holds_the_steps_that_were_made(run, tmp_path, saved_at, accumulate, made) -> None:
    """And a resumed run writes them again, without what was written after the checkpoint."""
    bad = {0: "x", 5: "y", 7: "y", 8: "z"}
    saved = tmp_path / "at.ckpt"
    run(Clips(6, bad), tmp_path / "q.jsonl", SaveAt(saved_at, saved), accumulate_grad_batches=accumulate)
    assert len(lines(tmp_path / "q.jsonl")) == 8
    state = torch.load(saved, weights_only=True)["callbacks"]["Quarantine"]
    expected = [entry(0, i, v) for i, v in bad.items() if i < 2 * made]
    assert state == {"used": 2 * made - len(expected), "entries": expected}
    callback = Quarantine(tmp_path / "q.jsonl")
    callback.load_state_dict(state)
    callback.on_train_start(SimpleNamespace(is_global_zero=True), None)
    assert lines(tmp_path / "q.jsonl") == expected


@pytest.mark.parametrize(
    ("bad", "clips_per_epoch", "fails"), [(1, 20, False), (2, 20, True), (5, 500, False), (6, 500, True)]
)
def test_above_one_percent_of_an_epoch_fails(run, tmp_path, bad, clips_per_epoch, fails) -> None:
    data = Clips(4, {i: "x" if i else "y" for i in range(bad)}, clips_per_epoch)
    if not fails:
        assert len(run(data, tmp_path / "q.jsonl").entries) == 2 * bad  # of two epochs: each is judged alone
        return
    worst = "x is broken; video y" if bad > 2 else "is broken; video"
    with pytest.raises(TrainingError, match=rf"of epoch 0 are quarantined, of {clips_per_epoch}; .*{worst}"):
        run(data, tmp_path / "q.jsonl")
    assert (tmp_path / "q.jsonl").exists()


def test_the_message_names_the_worst_videos(tmp_path) -> None:
    entries = [entry(3, i, f"v{i % 7}") for i in range(28)] + [entry(3, 99, "v6")]
    with pytest.raises(TrainingError) as error:
        check_share(entries, 2800.0, tmp_path / "q.jsonl")
    assert "29 clips of epoch 3 are quarantined, of 2800; allowed is 1%, here 28" in str(error.value)
    assert "q.jsonl lists them" in str(error.value)
    assert "these videos: video v6: v6 is broken; video v0" in str(error.value)
    check_share(entries[1:], 2800.0, tmp_path / "q.jsonl")


def test_is_there_only_where_it_is_asked_for() -> None:
    def there(config: Config) -> bool:
        return any(isinstance(callback, Quarantine) for callback in default_callbacks(config))

    assert not there(Config())
    assert there(Config(on_bad_sample="quarantine"))


def _rank(rank: int, store: str, path: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    callback = Quarantine(path)
    callback._made = (3 + rank, [entry(0, 7 - rank)])
    first = callback.state_dict()
    again = callback.state_dict()
    assert first == again == {"used": 7, "entries": [entry(0, 6), entry(0, 7)]}, (rank, first, again)
    dist.destroy_process_group()


def test_every_ranks_clips_are_in_a_checkpoint(tmp_path) -> None:
    mp.spawn(_rank, (str(tmp_path / "store"), str(tmp_path / "q.jsonl")), nprocs=2)
