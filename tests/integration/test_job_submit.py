"""`ray job submit` of the training to a cluster with token authentication, as docs/cluster.md tells it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobSubmissionClient

from sam2vt.core.data.writing.sample_data import write_sample_data
from tests.integration.one_clip import ONE_CLIP

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]  # several jobs, on a machine that may be busy

REPO = Path(__file__).resolve().parents[2]
STEPS = 60  # of a run that is stopped after its first ones and submitted again
START_SECONDS, RUN_SECONDS = 300, 300  # a loaded machine takes several times as long as an idle one
SMALL = (
    *ONE_CLIP,
    *("dataset.video_clip_length=2", "scheduler.warmup_steps=1", "trainer.num_overlay_videos=0"),
    *("trainer.val_check_interval=50", "trainer.log_every_n_steps=1", "ray.local_cpus=null"),
    "ray.num_workers=1",
)
SWEEP = (
    *("sweep=joint", "sweep.scheduler=none", "sweep.num_trials=2"),
    *("trainer.max_steps=2", "trainer.val_check_interval=2"),
)
# What `ray job stop` sends reaches the whole job; the shell outlives it to tell the driver's exit code,
# which Ray does not keep of a job that was stopped.
TELL_EXIT_CODE = ("sh", "-c", 'trap : TERM; "$@"; echo "driver exit code $?"', "sh")


class Outcomes(NamedTuple):
    jobs: dict[str, JobDetails]  # by submission id
    logs: dict[str, str]
    bad_input: subprocess.CompletedProcess[str]
    refused: dict[str, subprocess.CompletedProcess[str]]
    saved: list[dict[str, Any]]  # the manifests of the stopped run, oldest first
    folder: Path


class Jobs:
    """Submits trainings of the nano network on two generated videos."""

    def __init__(self, head: Any, folder: Path) -> None:
        self.head, self.folder = head, folder
        self.client = JobSubmissionClient(head.dashboard, headers={"Authorization": f"Bearer {head.token}"})
        write_sample_data(folder / "videos", num_videos=2, num_frames=6, size=(64, 64))

    def submit(
        self,
        name: str,
        *overrides: str,
        run: str = "",
        wait: bool = False,
        prefix: tuple[str, ...] = (),
        script: str = "train.py",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """`ray job submit` of a `run`, by default one of the submission's own `name`.

        `environment` goes over that of the head's owner; `prefix` comes before the job's command.
        """
        entrypoint = [*prefix, "python", f"ray_jobs/{script}", "experiment=demo"]
        entrypoint += [
            f"dataset.data_path={self.folder / 'videos'}",
            f"output_dir={self.folder / (run or name)}",
        ]
        entrypoint += [*SMALL, *overrides]
        options = ["--address", self.head.dashboard, "--submission-id", name, "--working-dir", str(REPO)]
        options += [] if wait else ["--no-wait"]
        return self.head.ray("job", "submit", *options, "--", *entrypoint, **environment)

    def wait(self, name: str, seconds: float = RUN_SECONDS) -> JobDetails:
        return self.until(name, lambda: self.client.get_job_status(name).is_terminal(), seconds)

    def until(self, name: str, done: Callable[[], bool], seconds: float) -> JobDetails:
        until = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < until, self.client.get_job_logs(name)
            time.sleep(0.5)
        return self.client.get_job_info(name)

    def is_training(self, name: str) -> bool:
        assert not self.client.get_job_status(name).is_terminal(), self.client.get_job_logs(name)
        return "training, step" in self.client.get_job_logs(name)


@pytest.fixture(scope="module")
def outcomes(start_head: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """A job that is stopped while it trains, one that is refused, and the first one again, to its end.

    One after the other: each takes a dozen processes.
    """
    head = start_head("--num-cpus=3", RAY_JOB_STOP_WAIT_TIME_S="60", RAY_prestart_worker_first_driver="false")
    jobs = Jobs(head, tmp_path_factory.mktemp("jobs"))
    to_the_end = ("resume=auto", f"trainer.max_steps={STEPS}")
    jobs.submit("stopped", *to_the_end, run="run", prefix=TELL_EXIT_CODE)
    bad_input = jobs.submit("bad", "model.image_size=100", wait=True)
    refused = {
        "no token": jobs.submit("no-token", RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN_PATH=""),
        "a wrong token": jobs.submit("wrong-token", RAY_AUTH_TOKEN="0" * 64),
    }
    jobs.until("stopped", lambda: jobs.is_training("stopped"), START_SECONDS)
    jobs.client.stop_job("stopped")
    jobs.wait("stopped")
    saved = [json.loads(path.read_text()) for path in sorted(jobs.folder.glob("run/checkpoints/step_*.json"))]
    jobs.submit("again", *to_the_end, run="run")
    jobs.wait("again")
    jobs.submit("swept", *SWEEP, script="tune.py")
    jobs.wait("swept")
    details = {job.submission_id: job for job in jobs.client.list_jobs() if job.submission_id}
    logs = {name: jobs.client.get_job_logs(name) for name in details}
    return Outcomes(details, logs, bad_input, refused, saved, jobs.folder)


def test_exit_codes(outcomes: Outcomes) -> None:
    assert outcomes.jobs["again"].driver_exit_code == 0, outcomes.logs["again"]
    assert outcomes.jobs["bad"].driver_exit_code == 2, outcomes.logs["bad"]
    assert outcomes.jobs["stopped"].status == "STOPPED"
    assert "driver exit code 143" in outcomes.logs["stopped"], outcomes.logs["stopped"]


def test_a_fault_is_said_without_a_traceback(outcomes: Outcomes) -> None:
    assert outcomes.bad_input.returncode == 1  # what the command line makes of any failure
    assert "model.image_size" in outcomes.bad_input.stdout
    assert "Traceback" not in outcomes.logs["bad"], outcomes.logs["bad"]


def test_a_stopped_job_saves_and_goes_on_when_submitted_again(outcomes: Outcomes) -> None:
    stopped = outcomes.saved[-1]
    assert stopped["reason"] == "sigterm"
    assert 0 < stopped["step"] < STEPS
    last = torch.load(outcomes.folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    assert last["SAM2LightningDataModule"]["samples_seen"] == STEPS
    assert re.search(rf"resume=auto: .*, step {stopped['step']}\b", outcomes.logs["again"])


def test_without_the_token_nothing_is_submitted(outcomes: Outcomes) -> None:
    for reason, result in outcomes.refused.items():
        assert result.returncode != 0, reason
        assert "authentication token" in result.stderr, result.stderr
    assert set(outcomes.jobs) == {"stopped", "bad", "again", "swept"}


def test_a_sweep_is_a_job_like_any_other(outcomes: Outcomes) -> None:
    assert outcomes.jobs["swept"].driver_exit_code == 0, outcomes.logs["swept"]
    assert "trial_001 done" in outcomes.logs["swept"]
    assert re.search(
        r" sweep of [\w., ]+: training sam2\.1_nano from random weights on ", outcomes.logs["swept"]
    )
    files = ("sweep.html", "trials.csv", "best/best.ckpt", "best/experiment.yaml")
    assert all((outcomes.folder / "swept" / name).is_file() for name in files)


def test_the_log_is_short_where_there_is_no_terminal(outcomes: Outcomes) -> None:
    """Lines now and then, no bar that is drawn over and over, nothing of libraries; the summary last."""
    lines = outcomes.logs["again"].splitlines()
    text = outcomes.logs["again"]
    assert any(line[8:].startswith(" training sam2.1_nano from random weights on ") for line in lines), text
    for unwanted in ("Tip", "GPU available", "deprecat", "FutureWarning", "v_num", "[INFO]", "[sam2vt"):
        assert unwanted not in text, text
    warned = [line[8:] for line in lines if "warn" in line.lower()]
    assert len(warned) == len(set(warned)), text
    assert "very videos that were trained on" in text.split("before training")[1]
    assert "next:" in lines
    assert len(lines) < 120, outcomes.logs["again"]
    assert not any("\r" in line or "it/s" in line for line in lines)
