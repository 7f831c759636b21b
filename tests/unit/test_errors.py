"""How errors reach a user: one message, an exit code, no traceback."""

from __future__ import annotations

import pickle

import pytest
from torch.utils.data import DataLoader, Dataset

from sam2vt.errors import DataError, TrainingError, exit_on_error, located


class Broken(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise DataError("clip.mp4, frame 3: cannot be decoded;\nreplace the file")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_loader_process_says_only_its_own_words(num_workers, capsys):
    with pytest.raises(SystemExit) as end, exit_on_error():
        next(iter(DataLoader(Broken(), num_workers=num_workers)))
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: clip.mp4, frame 3: cannot be decoded;\nreplace the file\n"


def test_a_failed_training_ends_with_3(capsys):
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise TrainingError("the loss is nan")
    assert end.value.code == 3
    assert capsys.readouterr().err == "error: the loss is nan\n"


def test_a_path_that_cannot_be_used_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end, exit_on_error():
        (tmp_path / "file" / "inner").mkdir()
    assert end.value.code == 2
    assert "file/inner: Not a directory" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_no_traceback(capsys):
    with pytest.raises(SystemExit) as end, exit_on_error():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_innermost_place_holds_and_goes_with_the_error_to_other_processes():
    with pytest.raises(DataError) as caught, located(video="a", frame=3), located(frame=5, file="f.png"):
        raise DataError("it is damaged", object=2)
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == "it is damaged"
    assert error.place == {"video": "a", "file": "f.png", "frame": 5, "object": 2}
