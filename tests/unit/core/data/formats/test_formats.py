"""`load_records`: which layout a path is, and what is said about it."""

from __future__ import annotations

import logging
import os
import shutil

import pytest

from sam2vt.config import DatasetConfig
from sam2vt.core.data.formats import LAYOUTS, load_records
from sam2vt.core.data.masks import labels
from sam2vt.errors import ConfigError, DataError
from sam2vt.settings import settings_of


def test_every_dataset_type_has_layouts():
    allowed = settings_of(DatasetConfig)["dataset_type"].allowed
    assert allowed is not None
    assert set(allowed.choices) == {"auto", *LAYOUTS}


@pytest.mark.parametrize(
    ("folder", "identity", "what"),
    [
        ("davis17_bmx-trees", "error", "recognised as a tree of frames and masks, because .*JPEGImages"),
        ("pumavos_chair", "error", "recognised as a single clip, because images are in"),
        (
            "davis17_schoolgirls_mp4",
            "error",
            "recognised as video files.*because it has schoolgirls_orig.mp4",
        ),
        ("endoscapes_coco", "category", "recognised as COCO video JSON, because sample_annotations.json has"),
    ],
)
def test_the_log_says_what_was_recognised(shared_data, caplog, folder, identity, what):
    import re

    with caplog.at_level(logging.INFO):
        load_records("auto", shared_data / folder, identity=identity)
    assert re.search(what, caplog.text)


def test_loading_decodes_no_mask(shared_data, monkeypatch):
    def refuse(*_):
        raise AssertionError("a mask was decoded")

    monkeypatch.setattr(labels, "read_labels", refuse)
    monkeypatch.setattr("sam2vt.core.data.masks.rle.segmentation_to_mask", refuse)
    monkeypatch.setattr("sam2vt.core.data.frames.images.read_pixels", refuse)
    for folder in ("davis17_bmx-trees", "davis17_schoolgirls_mp4", "pumavos_chair", "endoscapes_coco"):
        identity = "category" if folder == "endoscapes_coco" else "error"
        assert load_records("auto", shared_data / folder, identity=identity)


def test_relative_paths_become_absolute(tree, monkeypatch):
    root = tree({"a": 1})
    monkeypatch.chdir(root.parent)
    (record,) = load_records("auto", root.name)
    monkeypatch.chdir("/")
    assert os.path.isfile(record.frame_paths[0])
    assert os.path.isfile(record.annotations[0].path)


def test_failure_names_the_simplest_layout(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        load_records("auto", tmp_path)
    message = str(caught.value)
    assert f"{tmp_path} is no dataset of type auto: it holds notes.txt" in message
    assert "The simplest layout is JPEGImages/<video>/00000.jpg" in message


def test_the_only_folder_of_an_archive_is_entered(tree, tmp_path, caplog):
    tree({"a": 2}, root="export/clips")
    for other in ("__MACOSX/clips", ".cache"):
        (tmp_path / "export" / other).mkdir(parents=True)
    with caplog.at_level(logging.INFO):
        (record,) = load_records("auto", tmp_path / "export")
    assert record.frame_paths[0] == str(tmp_path / "export/clips/JPEGImages/a/00000.jpg")
    assert "a tree of frames and masks, because in its only folder, clips, " in caplog.text
    (tmp_path / "export/more").mkdir()
    with pytest.raises(DataError, match="no dataset of type auto: it holds .*clips, more"):
        load_records("auto", tmp_path / "export")


def test_frames_without_masks_are_said_to_lack_them(tree):
    root = tree({"a": 1})
    shutil.rmtree(root / "Annotations")
    (root / "JPEGImages/b.mp4").touch()  # which would be a dataset by itself
    with pytest.raises(DataError, match="frames in JPEGImages, but no masks"):
        load_records("auto", root)


def test_an_ending_that_is_not_read_is_named(tmp_path):
    (tmp_path / "a.y4m").touch()
    with pytest.raises(DataError, match=r"No video by its ending is a\.y4m; read are \.mp4, .*: convert it"):
        load_records("auto", tmp_path)


def test_only_the_type_asked_for_is_looked_for(tree, tmp_path):
    root = tree({"a": 1})
    with pytest.raises(DataError, match=r"type coco: it holds Annotations, JPEGImages\. It is a tree"):
        load_records("coco", root)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.json").write_text("{}")
    with pytest.raises(DataError, match=r"type video: it holds a\.json\. It is "):
        load_records("video", tmp_path / "data")


def test_values_that_are_not_allowed(tree):
    with pytest.raises(ConfigError, match="dataset_type='davis': must be one of auto, video, coco"):
        load_records("davis", ".")
    with pytest.raises(ConfigError, match="identity='guess': must be one of error, category, iou"):
        load_records("coco", ".", identity="guess")
    root = tree({"a": 1})
    with pytest.raises(ConfigError, match="identity=iou means nothing to a tree of frames and masks"):
        load_records("auto", root, identity="iou")
    with pytest.raises(ConfigError, match="image_root=/x means nothing to a tree"):
        load_records("video", root, image_root="/x")
