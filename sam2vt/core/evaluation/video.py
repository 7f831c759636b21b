"""Score a model over a whole video, frame by frame in constant memory.

Annotated frames count, except for the first and the last (as in DAVIS; an option keeps them). For an object,
only frames after its prompted frame count, whatever the kind of prompt: a mask prompt is returned unchanged,
and the baseline is scored on the same frames as the model. Objects that are unknown on a frame are not scored
there. Void pixels count on neither side.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.masks.loading import known_objects, load_masks, load_void
from sam2vt.core.data.videos import first_prompts, video_frames
from sam2vt.core.evaluation.jf import BY_OBJECT, UNSCORED, MeanScore, ObjectScore, VideoScore, mean_score
from sam2vt.core.types import Prompt, VideoRecord

Masks = Mapping[int, np.ndarray]  # object id -> bool [height,width]
# (frame index in the video, RGB uint8 [H,W,3] as the model saw it, predictions, ground truth); masks are at
# the video's own size, and the ground truth of a frame that is not annotated is empty.
OnFrame = Callable[[int, np.ndarray, Masks, Masks], Any]


class Prediction(Protocol):
    """A tracker's output for one frame and the K objects prompted so far."""

    @property
    def frame_index(self) -> int:
        """Index of the frame, counted from the first one given."""

    @property
    def object_indices(self) -> Sequence[int]:
        """The `object_index` [K] of the prompts."""

    @property
    def masks(self) -> Tensor:
        """Logits [K,h,w] of any size."""


class Tracker(Protocol):
    """Anything that tracks prompted objects through frames, such as `SAM2Model`."""

    def propagate(
        self, frames: Iterable[Tensor], prompts: list[Prompt], num_frames: int
    ) -> Iterable[Prediction]:
        """Yield one prediction per frame, in order; frames are uint8 [3,H,W]."""


@dataclass(frozen=True)
class VideoResult:
    """The scores of one video, one row per object; NaN and 0 frames if no frame counts for an object."""

    video_id: str
    scores: list[ObjectScore]
    num_frames: int  # frames that were tracked, scored or not
    seconds: float  # wall clock of the whole evaluation, reading and scoring included

    @property
    def mean(self) -> MeanScore:
        """Mean over the objects."""
        return mean_score(self.scores)


def can_be_scored(record: VideoRecord, score_first_and_last: bool = False) -> bool:
    """Return whether a frame may count, without reading masks; never true for a still."""
    return len(record.annotated_frames) >= (2 if score_first_and_last else 3)


def evaluate_video(
    model: Tracker,
    record: VideoRecord,
    image_size: int,
    generator: PromptGenerator,
    seed: int,
    score_first_and_last: bool = False,
    on_frame: OnFrame | None = None,
    resize_as_stock: bool = False,
) -> VideoResult:
    """Prompt each object where it is first visible, track it to the end, and score J and F.

    The prompts depend only on (seed, video id). Predictions are resized to the video's size, and a
    pixel belongs to the object with the largest positive logit there. `on_frame` sees every frame once.
    `resize_as_stock` resizes frames and mask prompts as SAM 2's video predictor does.
    Raises DataError if frames or masks cannot be read.
    """
    scorer = _Scorer(record, image_size, generator, seed, score_first_and_last, resize_as_stock)
    images: dict[int, Tensor] = {}  # that the model has taken and not yet predicted, for `on_frame`

    def frames() -> Iterator[Tensor]:
        for i, frame in enumerate(video_frames(record, image_size, resize_as_stock)):
            if on_frame is not None:
                images[i] = frame
            yield frame

    for prediction in model.propagate(frames(), scorer.prompts, len(record.frames)):
        index = record.frames.start + prediction.frame_index
        image = images.pop(prediction.frame_index, None)
        annotated = index in record.annotations
        if not annotated and image is None:  # nobody asks for the masks
            continue
        owner = settle_overlaps(prediction.masks, (record.height, record.width))
        masks = {scorer.object_ids[o]: owner == k for k, o in enumerate(prediction.object_indices)}
        truth = load_masks(record, index) if annotated else {}
        if annotated:
            scorer.add(index, masks, truth)
        if on_frame is not None and image is not None:
            on_frame(index, image.permute(1, 2, 0).cpu().numpy(), masks, truth)
    return scorer.result()


def hold_first_mask(
    record: VideoRecord,
    image_size: int,
    generator: PromptGenerator,
    seed: int,
    score_first_and_last: bool = False,
) -> VideoResult:
    """Score the baseline that repeats each object's mask on its prompted frame.

    Arguments are those of `evaluate_video`; prompted and counting frames are the same.
    """
    scorer = _Scorer(record, image_size, generator, seed, score_first_and_last)
    held: dict[int, np.ndarray] = {}
    for index in record.annotated_frames:
        truth = load_masks(record, index)
        held.update({i: truth[i] for i, frame in scorer.given.items() if frame == index and i in truth})
        scorer.add(index, held, truth)
    return scorer.result()


class _Scorer:
    """The prompts of a video, and a `VideoScore` that knows which objects count on which frame."""

    def __init__(
        self,
        record: VideoRecord,
        image_size: int,
        generator: PromptGenerator,
        seed: int,
        both_ends: bool,
        resize_as_stock: bool = False,
    ) -> None:
        self._started = time.perf_counter()
        # By the video's own name: whichever rank scores it, and in whichever order, prompts are the same.
        rng = np.random.default_rng([seed, zlib.crc32(record.video_id.encode())])
        self._record = record
        self.prompts, self.object_ids = first_prompts(record, image_size, generator, rng, resize_as_stock)
        self.given: dict[int, int] = {}  # object id -> index in the video of its first prompt's frame
        for place, prompt in enumerate(self.prompts):
            object_id = self.object_ids[prompt.get("object_index", place)]
            frame = record.frames.start + prompt.get("frame_index", 0)
            self.given[object_id] = min(frame, self.given.get(object_id, frame))
        self._score = VideoScore(both_ends, video_id=record.video_id)

    def add(self, index: int, predictions: Masks, truth: Masks) -> None:
        known = known_objects(self._record, index)
        counted = {i for i, given in self.given.items() if index > given and (known is None or i in known)}
        left_out = {*truth, *self.given} - counted
        self._score.add(index, predictions, truth, load_void(self._record, index), left_out)

    def result(self) -> VideoResult:
        video_id = self._record.video_id
        # An object that no frame counts for has a row too, of NaN.
        rows = {i: ObjectScore(video_id, i, UNSCORED, 0) for i in self.given}
        rows |= {row.object_id: row for row in self._score.result()}
        names = self._record.names_of(rows)
        rows = {i: row._replace(name=str(names.get(i, ""))) for i, row in rows.items()}
        seconds = time.perf_counter() - self._started
        return VideoResult(video_id, sorted(rows.values(), key=BY_OBJECT), len(self._record.frames), seconds)


@torch.no_grad()
def settle_overlaps(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return the owner of each pixel, int16 [height,width]: the index k of an object, or -1 for none.

    `logits` [K,h,w] are resized to `size` (height, width), bilinearly. A pixel belongs to the object with
    the largest logit above 0, the first of equals.
    """
    best = torch.zeros(size, device=logits.device)
    owner = torch.full(size, -1, dtype=torch.int16, device=logits.device)
    for k, small in enumerate(logits):  # one by one, so that memory does not grow with their number
        full = small.float()
        if tuple(small.shape) != tuple(size):
            full = F.interpolate(full[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        better = full > best
        owner.masked_fill_(better, k)
        best = torch.where(better, full, best)
    return owner.cpu().numpy()
