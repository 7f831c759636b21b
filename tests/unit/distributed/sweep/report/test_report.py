from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2vt.distributed.sweep.report.page import write_report
from sam2vt.distributed.sweep.results import DONE, FAILED, RUNNING, STOPPED, Objective, SweepResult, Trial

JF, SPEED = Objective("val/J&F", "max"), Objective("seconds_per_step", "min")
FIELDS = ("optimizer.lr", "dataset.points", "model.frozen")
DEFAULTS = {"optimizer.lr": 1e-5, "dataset.points": 1, "model.frozen": True}
SECTIONS = ["values", "history", "parameters", "parallel", "importance", "curves", "overlays", "trials"]
STATUSES = (DONE, DONE, STOPPED, FAILED, DONE, DONE, DONE, RUNNING)
HOSTILE = "<script>alert(1)</script>\"'&\x00"


class Page(HTMLParser):
    """What the tests look at: tags with attributes, sections in order, text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, list[str]] = {"": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.sections[str(dict(attrs)["id"])] = []

    def handle_data(self, data: str) -> None:
        self.sections[list(self.sections)[-1]].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.sections[list(self.sections)[-1]].append(" ")

    def text(self, section: str = "") -> str:
        return " ".join("".join(self.sections[section]).split())


def sweep(statuses: Sequence[str] = STATUSES, objectives: Sequence[Objective] = (JF,)) -> SweepResult:
    rng = np.random.default_rng(0)
    trials = []
    for n, status in enumerate(statuses):
        values: dict[str, Any] = {
            "optimizer.lr": float(10 ** rng.uniform(-6, -3)),
            "model.frozen": bool(n % 2),
        }
        values |= {"dataset.points": n} if n % 2 else {}
        jf = 0.5 + 0.05 * n
        rows = [
            {
                "step": 10.0 * i,
                "val/J&F": jf * i / 2,
                "val/J": jf * i / 2 - 0.1,
                "val/F": 0.7,
                "seconds_per_step": jf,
            }
            for i in range(3)
        ]
        trials.append(
            Trial(n, values if n else {}, status, f"why {n}", [] if status == FAILED else rows, 60.0)
        )
    return SweepResult("s", trials, objectives, FIELDS, frozenset({"optimizer.lr"}), DEFAULTS)


def picture(kind: str, colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (colour, 0, 0)).save(file, kind)
    return file.getvalue()


def written(tmp_path: Path, result: SweepResult, overlays: Any = None) -> str:
    path = tmp_path / "reports" / "sweep.html"
    write_report(result, path, overlays or {})
    assert [p.name for p in path.parent.iterdir()] == ["sweep.html"]
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "statuses",
    [(), (DONE,), (FAILED,), (FAILED,) * 5, (RUNNING,) * 3, (DONE, DONE), STATUSES],
    ids=["none", "one", "one failed", "all failed", "all running", "two", "many"],
)
@pytest.mark.parametrize("objectives", [(JF,), (JF, SPEED)], ids=["one objective", "two objectives"])
def test_every_section_says_something(
    tmp_path: Path, statuses: Sequence[str], objectives: Sequence[Objective]
) -> None:
    page = Page(written(tmp_path, sweep(statuses, objectives)))
    assert list(page.sections)[1:] == SECTIONS + ["pareto"] * (len(objectives) - 1)
    assert all(len(page.text(name)) > 20 for name in page.sections)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in page.tags if tag == "a"]
    assert targets == list(page.sections)[1:]


def test_the_verdict_of_a_gain(tmp_path: Path) -> None:
    said = Page(written(tmp_path, sweep())).text()
    assert "trial_006 is the best, with J&F 0.800; the default has J&F 0.500: a gain of 0.300." in said
    assert "8 trials: 5 ran to the end, 1 stopped early, 1 failed, 1 still running; 8 min" in said


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((FAILED, STOPPED), "No trial ran to its end."),
        ((), "No trial ran to its end."),
        ((DONE, STOPPED), "No trial beat the default, with J&F 0.500."),
        ((FAILED, DONE), "trial_001 is the best, with J&F 0.550; the default came to nothing to compare."),
        ((STOPPED, DONE), "the default (stopped) has J&F 0.500: a gain of 0.050."),
    ],
)
def test_the_verdict_without_a_gain(tmp_path: Path, statuses: Sequence[str], verdict: str) -> None:
    assert verdict in Page(written(tmp_path, sweep(statuses))).text()


def test_a_lower_objective_gains_too(tmp_path: Path) -> None:
    said = Page(
        written(tmp_path, replace(sweep((DONE, DONE)), objectives=[Objective("val/J", "min")]))
    ).text()
    assert "No trial beat the default, with J " in said
    trials = [
        replace(t, rows=[{"step": 1.0, "seconds_per_step": 2.0 - t.number}])
        for t in sweep((DONE, DONE)).trials
    ]
    said = Page(written(tmp_path, replace(sweep(), trials=trials, objectives=[SPEED]))).text()
    assert "with seconds per step 1; the default has seconds per step 2: a gain of 1." in said


def test_all_trials_by_the_objective_then_the_others(tmp_path: Path) -> None:
    text = written(tmp_path, sweep()).split('<section id="trials">')[1]
    assert re.findall(r'<th scope="row">trial_00(\d)', text) == list("65410273")
    row = next(line for line in text.splitlines() if ">trial_006<" in line)
    assert [re.sub("<[^>]+>", "", cell) for cell in row.split("</td>")[:6]] == [
        "trial_006done",
        "why 6",
        "20",
        "0.800",
        "0.700",
        "0.700",
    ]


def test_the_default_stands_beside_the_best(tmp_path: Path) -> None:
    said = Page(written(tmp_path, sweep())).text("values")
    assert "best (trial_006)" in said
    assert re.search(r"optimizer\.lr 1e-05 \S+ \N{MULTIPLICATION SIGN} \S+", said)
    assert "dataset.points 1 not set not set" in said


def test_two_objectives_have_a_table_of_the_choice(tmp_path: Path) -> None:
    text = written(tmp_path, sweep(objectives=(JF, SPEED))).split('<section id="pareto">')[1]
    assert re.findall(r'<th scope="row">trial_00(\d)', text) == list("65410")
    assert "further left is better in both" in text


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    text = written(tmp_path, sweep(objectives=(JF, SPEED)), {6: [("v.png", picture("PNG", 9))]})
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]", text)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    links = [a[k] for _, a in page.tags for k in ("src", "href", "xlink:href") if k in a]
    assert all(str(link).startswith(("data:", "#")) for link in links)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert text.index("charset") < text.index("Content-Security-Policy") < text.index("<title>")


def test_hostile_values_are_shown_as_they_are(tmp_path: Path) -> None:
    result = sweep((DONE,) * 5)
    trials = [replace(t, values={HOSTILE: HOSTILE + str(t.number)}, reason=HOSTILE) for t in result.trials]
    hostile = replace(result, name=HOSTILE, trials=trials, fields=[HOSTILE], defaults={HOSTILE: HOSTILE})
    text = written(tmp_path, hostile, {4: [(f"{HOSTILE}.png", b"no picture")]})
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "\x00" not in text
    assert all("<script>alert(1)</script>" in page.text(s) for s in ("", "values", "trials", "overlays"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_overlays_of_best_and_default_stand_side_by_side(tmp_path: Path) -> None:
    names = ("a%2Fb.gif", "a%2Fb.png")
    kinds = ("GIF", "PNG")
    overlays = {n: [(name, picture(kind, n)) for name, kind in zip(names, kinds)] for n in (0, 1, 6)}
    text = written(tmp_path, sweep(), overlays).split('<section id="overlays">')[1].split("</section>")[0]
    page = Page(text)
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == [
        "overlays of trial_006",
        "overlays of trial_000",
    ] * 2
    assert [str(a["src"])[:15] for tag, a in page.tags if tag == "img"] == ["data:image/gif;"] * 2 + [
        "data:image/png;"
    ] * 2
    assert text.count("<h3>a/b</h3>") == 1


def test_pictures_that_are_missing_or_broken_are_said_to_be(tmp_path: Path) -> None:
    text = Page(written(tmp_path, sweep(), {6: [("a.png", picture("PNG", 1)), ("b.png", b"")]})).text(
        "overlays"
    )
    assert text.count("This trial has no such picture.") == 2
    assert text.count("neither a PNG nor a GIF") == 1


def test_the_same_byte_for_byte(tmp_path: Path) -> None:
    overlays = {0: [("a.png", picture("PNG", 1))]}
    first = written(tmp_path, sweep(objectives=(JF, SPEED)), overlays)
    assert written(tmp_path, sweep(objectives=(JF, SPEED)), overlays) == first


def test_a_report_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.html"
    write_report(sweep(), path)
    before = path.read_bytes()
    monkeypatch.setattr("sam2vt.core.storage.disk.os.replace", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        write_report(sweep((DONE,)), path)
    assert path.read_bytes() == before
