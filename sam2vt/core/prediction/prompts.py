"""Keep prompts until their video is open, then check them against its frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from sam2vt.core.data.masks.rle import encode_mask, segmentation_to_mask
from sam2vt.core.prediction.entries import Faults, at, check_videos, numbers, whole
from sam2vt.core.prediction.prompt_rules import frame_faults, object_faults, prompt_faults
from sam2vt.core.prediction.types import Click, ObjectPrompt, VideoPrompts
from sam2vt.errors import DataError

# Of (video id, height, width, number of frames or None) the prompts; DataError where they do not fit.
Fit = Callable[[str, int, int, "int | None"], VideoPrompts]


@dataclass(frozen=True)
class Prompts:
    """The prompts of one or several videos, from a file, a folder or options."""

    path: str  # what they come from, for messages
    videos: Mapping[str | None, Fit]  # the key None: of the only video of a source
    content: str = ""  # of a file: all that it says, with the masks that it names; the same in every process

    def check_videos(self, ids: Collection[str]) -> None:
        """Raise DataError for prompts of videos that are not among `ids`, and for ids without prompts."""
        check_videos(self.path, self.videos, ids)

    def for_video(
        self, video_id: str, height: int, width: int, num_frames: int | None = None
    ) -> VideoPrompts:
        """Return a video's prompts in the order of frames, then ids.

        `height` and `width` are those of its upright frames in pixels; `num_frames` is None if unknown, as
        for a camera. Raises one DataError for all prompts that do not fit.
        """
        fit = self.videos.get(video_id, self.videos.get(None))
        if fit is None:
            raise DataError(f"{self.path}: has no prompt for video {video_id}; add it", video=video_id)
        return fit(video_id, height, width, num_frames)


class GivenObject(NamedTuple):
    """An object with its prompts. Masks are kept as run lengths, because they may wait for hours."""

    object_id: int
    name: str
    prompts: tuple[ObjectPrompt, ...]
    rles: Mapping[int, dict[str, Any]]  # frame -> the mask of its prompt
    remove_at: int | None = None

    @property
    def label(self) -> str:
        """Id and name, for messages."""
        return object_label(self.object_id, self.name)


def object_label(object_id: int, name: str) -> str:
    """Return the words that messages use for an object."""
    return f"object {object_id} ({name})" if name else f"object {object_id}"


def give_object(
    faults: Faults,
    where: str,
    object_id: int,
    name: str,
    prompts: Iterable[ObjectPrompt],
    remove_at: int | None,
) -> GivenObject:
    """Check the prompts of one object against each other, and pack their masks."""
    prompts = sorted(prompts, key=lambda each: each.frame)
    for each in prompts:
        for fault in prompt_faults(each):
            faults.add(at(where, f"frame {each.frame}"), fault)
    for frame, fault in object_faults(prompts, remove_at):
        faults.add(at(where, f"frame {frame}"), fault)
    rles = {each.frame: encode_mask(each.mask) for each in prompts if each.mask is not None}
    return GivenObject(object_id, name, tuple(replace(each, mask=None) for each in prompts), rles, remove_at)


def fit_objects(
    path: str,
    objects: Sequence[GivenObject],
    video_id: str,
    height: int,
    width: int,
    num_frames: int | None,
) -> VideoPrompts:
    """Return the prompts of a video whose frames have this size. Raises DataError if they do not fit."""
    faults = Faults(path)
    fitted = []
    for given in objects:
        where = at(f"video {video_id}", given.label)
        for prompt in given.prompts:
            rle = given.rles.get(prompt.frame)
            mask = None if rle is None else segmentation_to_mask(rle, rle["size"][0], rle["size"][1], where)
            place = at(where, f"frame {prompt.frame}")
            prompt = replace(prompt, mask=mask, where=f"{path}: {place}")
            for fault in frame_faults(prompt, height, width, num_frames):
                faults.add(place, fault)
            fitted.append(prompt)
        if num_frames is not None and given.remove_at is not None and given.remove_at >= num_frames:
            last = num_frames - 1
            faults.add(at(where, "remove_at"), f"is {given.remove_at}; the last frame of the video is {last}")
    faults.check(video=video_id)
    return VideoPrompts(
        tuple(sorted(fitted, key=lambda each: (each.frame, each.object_id))),
        {each.object_id: each.name for each in objects if each.name},
        {each.object_id: each.remove_at for each in objects if each.remove_at is not None},
    )


def prompts_from_options(
    points: Sequence[str | Sequence[float]] = (),
    negatives: Sequence[str | Sequence[float]] = (),
    box: str | Sequence[float] | None = None,
    frame: int = 0,
) -> Prompts:
    """Return the prompts of one object, with id 1, of a single video.

    Each point is "x,y" or (x, y), the box "x0,y0,x1,y1" or four numbers. Raises DataError for anything else,
    and for contradictions.
    """
    path = "--point, --negative, --box, --frame"
    faults = Faults(path)
    clicks = [
        Click(each[0], each[1], is_positive)
        for option, texts, is_positive in (("--point", points, True), ("--negative", negatives, False))
        for text in texts
        if (each := _read_option(faults, option, text, 2, "x,y"))
    ]
    corners = None if box is None else _read_option(faults, "--box", box, 4, "x0,y0,x1,y1")
    try:
        whole(0)(frame)
    except ValueError as error:
        faults.add("--frame", str(error))
    # What could not be read would be missed as well.
    faults.check()
    prompt = ObjectPrompt(1, frame, tuple(clicks), corners)
    given = give_object(faults, "", 1, "", [prompt], None)
    faults.check()
    return Prompts(path, {None: partial(fit_objects, path, (given,))})


def _read_option(faults: Faults, option: str, text: str | Sequence[float], count: int, what: str) -> Any:
    """Return the numbers of an option; None if it is at fault."""
    try:
        values = [float(each) for each in (text.split(",") if isinstance(text, str) else text)]
        return numbers(count, what)(values)
    except ValueError:
        faults.add(
            option, f"is {str(text)[:40]!r}; allowed are {count} numbers, {what}, in pixels of the source"
        )
    return None
