"""Track every video of a source from its prompts, write the masks, and resume stopped calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from sam2vt.core.data.writing.folder import folder_names
from sam2vt.core.prediction.association import Association
from sam2vt.core.prediction.call import Call
from sam2vt.core.prediction.engine import Engine
from sam2vt.core.prediction.following import Following
from sam2vt.core.prediction.journal import Journal, TrackedVideo
from sam2vt.core.prediction.outputs import join_outputs, write_outputs
from sam2vt.core.prediction.outputs.overlay import OverlayWriter, overlay_path
from sam2vt.core.prediction.source import FetchedSource, Source
from sam2vt.core.prediction.types import FrameMasks, VideoPrompts
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

SAVE_EVERY = 20.0  # seconds of work that a killed call repeats at most, and a frame
_TELL_EVERY = 10.0  # seconds

# Of an opened source its prompts, and the detections that begin and prompt further objects.
Given = Callable[[Source], "tuple[VideoPrompts, Association | None]"]


@dataclass(frozen=True)
class Plan:
    """The work to do on every video."""

    engine: Engine
    given: Given
    formats: Sequence[str]
    direction: str = "forward"


def predict(plan: Plan, sources: Sequence[Source], call: Call) -> list[TrackedVideo]:
    """Track and write every source into the call's folder; return the videos.

    Finished videos are skipped; an unfinished one continues from its saved state. Raises DataError if
    something cannot be read or written. Files written so far stay, and the call can be resumed.
    """
    names, videos = folder_names(source.video_id for source in sources), []
    for number, source in enumerate(sources, start=1):
        name = names[source.video_id]
        where = f"video {number} of {len(sources)}, {source.video_id}"
        with source:
            if call.is_finished(name, plan.formats):
                log.info("%s: is finished already", where)
                record = None if isinstance(source, FetchedSource) else source.record
                video = call.finished(name, record)
            else:
                video = _track(plan, source, name, call, where)
                write_outputs(plan.formats, video, call.folder)
                call.written(name, plan.formats)
        assert video is not None
        # The copy of a remote source is gone now.
        videos.append(replace(video, record=None) if isinstance(source, FetchedSource) else video)
    join_outputs(plan.formats, videos, call.folder)
    return videos


def _track(plan: Plan, source: Source, name: str, call: Call, where: str) -> TrackedVideo:
    """Return the video with all its frames tracked; its journal and state are in the call's folder."""
    done, saved = call.finished(name, source.record), call.saved(name, plan.engine.model.device)
    if done is not None:  # stopped while its outputs were written
        return done
    prompts, association = plan.given(source)
    with ExitStack() as stack:
        drawn = None
        if source.is_live and "overlay" in plan.formats:  # its frames come once
            path = overlay_path(call.folder, name)
            drawn = stack.enter_context(OverlayWriter(path, source.fps or 24.0))
        draw = None if drawn is None else lambda frame, masks: drawn.add(frame, masks or next(before))
        following = Following(plan.engine, source, prompts, plan.direction, association, draw)
        before: Iterator[FrameMasks] = iter(())  # of frames that a call before this one has tracked
        if saved is not None:
            following.restore(saved["following"])
            before = call.so_far(name, source, saved["last"] + 1, following.names).frames()
            log.info("%s: continues behind %d frames", where, saved["frames"])
        journal = stack.enter_context(Journal(call.journal(name), saved["journal"] if saved else 0))
        progress = _Progress(where, source, saved)

        def save() -> None:
            journal.sync()
            call.save(name, {"journal": journal.offset, **progress.state(), "following": following.state()})

        for masks in following.masks():
            journal.append(masks)
            if progress.count(masks):
                save()
        save()
    num_frames = source.num_frames if source.num_frames is not None else progress.last + 1
    if num_frames == 0:
        raise DataError(f"{source.where}: ended before its first frame; nothing is tracked")
    apart = plan.engine.options.overlaps == "resolve"
    return call.finish(name, source, num_frames, following.names, apart)


class _Progress:
    """Counts frames, tells how fast they come and how many are left, and says when to save."""

    def __init__(self, where: str, source: Source, saved: dict[str, Any] | None) -> None:
        self.last = saved["last"] if saved else -1
        self._frames, self._where = saved["frames"] if saved else 0, where
        self._total = source.num_frames
        self._began = self._told = self._saved = time.monotonic()
        self._new = 0

    def state(self) -> dict[str, int]:
        """Return the counts, for `saved`."""
        return {"frames": self._frames, "last": self.last}

    def count(self, masks: FrameMasks) -> bool:
        """Count a frame; return whether it is time to save."""
        self._frames, self._new, self.last = self._frames + 1, self._new + 1, max(self.last, masks.frame)
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            log.info("%s: %s", self._where, self._text(masks.frame, now))
        if now - self._saved < SAVE_EVERY:
            return False
        self._saved = now
        return True

    def _text(self, frame: int, now: float) -> str:
        speed = self._new / max(now - self._began, 1e-9)
        text = f"frame {frame}" if self._total is None else f"frame {frame} of {self._total}"
        text += f", {speed:.3g} frames/s"
        if self._total is not None and self._frames <= self._total:
            text += f", at most {(self._total - self._frames) / speed:.0f} s left"
        return text
