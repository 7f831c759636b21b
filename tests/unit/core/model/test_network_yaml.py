"""A network YAML that someone passed on must not run what it likes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
import yaml

from sam2vt.core.model.build import build_network, network_config
from sam2vt.core.model.network_yaml import NETWORK_CLASS, network_yaml, sam2_folder
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.errors import ConfigError

from .conftest import NANO, SIZE

SHIPPED = [str(path) for name in ("sam2", "sam2.1") for path in (sam2_folder() / "configs" / name).glob("*")]
HIERADET = "sam2.modeling.backbones.hieradet"
SYSTEM = {"_target_": "os.system", "command": "false"}

Change = Callable[[dict[str, Any]], Any]


def targets(name: str) -> Change:
    """Change the memory encoder's target."""
    return lambda content: content["model"]["memory_encoder"].update(_target_=name)


def at_fuser(**values: Any) -> Change:
    return lambda content: content["model"]["memory_encoder"]["fuser"].update(values)


def text_for(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


# What the YAML does -> its change, and what the message shows.
HOSTILE: dict[str, tuple[Change, str]] = {
    "another package": (targets("os.system"), "os.system"),
    "a builtin": (targets("builtins.exec"), "builtins.exec"),
    "through an import": (targets(f"{HIERADET}.torch.utils.collect_env.run"), "collect_env.run"),
    "an imported class": (targets(f"{HIERADET}.nn.Linear"), "nn.Linear"),
    "an imported name": (targets(f"{HIERADET}.partial"), "hieradet.partial"),
    "a class under a name of another file": (
        targets("sam2.modeling.sam2_base.MaskDecoder"),
        "sam2_base.MaskDecoder",
    ),
    "a function that opens files": (targets(f"{HIERADET}.g_pathmgr.open"), "g_pathmgr.open"),
    "torch.load by an import": (targets("sam2.modeling.sam2_base.torch.load"), "torch.load"),
    "a function of SAM 2": (targets("sam2.modeling.sam2_utils.get_clones"), "get_clones"),
    "a method": (targets(f"{NETWORK_CLASS}.forward"), "SAM2Base.forward"),
    "a dunder": (targets(f"{NETWORK_CLASS}.__init__.__globals__"), "__globals__"),
    "a module": (targets("sam2.modeling.sam2_base"), "sam2.modeling.sam2_base'"),
    "a prefix only": (targets("sam2.modeling_evil.Net"), "sam2.modeling_evil.Net"),
    "another part of sam2": (targets("sam2.build_sam.build_sam2"), "build_sam2"),
    "a predictor below the top": (
        targets("sam2.sam2_video_predictor.SAM2VideoPredictor"),
        "SAM2VideoPredictor",
    ),
    "a hidden import": (targets("sam2.modeling..os.system"), "os.system"),
    "a relative name": (targets(".os.system"), ".os.system"),
    "a class nobody has": (targets("sam2.modeling.memory_encoder.Nothing"), "Nothing"),
    "no text": (at_fuser(_target_=["os.system"]), r"\['os.system'\]"),
    "layers without end": (at_fuser(num_layers=10**9), r"fuser\.num_layers is 1000000000; allowed are up to"),
    "blocks without end": (
        lambda c: c["model"]["image_encoder"]["trunk"].update(stages=[1, 10**9, 1, 1]),
        r"trunk\.stages\[1\] is 1000000000; allowed are up to 1000 layers",
    ),
    "at the top": (lambda c: c["model"].update(_target_="os.system"), "model._target_ is 'os.system'"),
    "in a list": (at_fuser(extra=[1, [SYSTEM]]), r"fuser\.extra\[1\]\[0\]\._target_"),
    "in _args_": (at_fuser(_args_=[SYSTEM]), r"fuser\._args_\[0\]\._target_"),
    "a partial": (at_fuser(extra={**SYSTEM, "_partial_": True}), "os.system"),
    "not recursive": (at_fuser(_recursive_=False, extra=SYSTEM), "os.system"),
    "below a plain mapping": (at_fuser(extra={"a": {"b": SYSTEM}}), r"extra\.a\.b\._target_"),
    "an interpolated target": (
        lambda c: c["model"].update(evil="os.system", other={"_target_": "${model.evil}"}),
        r"model\.other\._target_ is 'os.system'",
    ),
    "a relative interpolation": (
        at_fuser(evil="os.system", extra={"_target_": "${..evil}"}),
        r"extra\._target_ is 'os.system'",
    ),
    "a target in pieces": (
        lambda c: c["model"].update(evil="os", other={"_target_": "${model.evil}.system"}),
        r"model\.other\._target_ is 'os.system'",
    ),
    "a whole node interpolated": (
        lambda c: c.update(evil=SYSTEM) or c["model"].update(other="${evil}"),
        "cannot be resolved",
    ),
    "a resolver": (at_fuser(extra="${oc.decode:'{_target_: os.system}'}"), "oc.decode"),
    "a resolver that makes nodes": (at_fuser(extra="${oc.create:{_target_:os.system}}"), "oc.create"),
    "the environment": (at_fuser(_target_="${oc.env:HOME}"), "oc.env:HOME"),
    "a resolver by interpolation": (at_fuser(evil="oc.env", extra="${${.evil}:HOME}"), "HOME"),
    "an escaped resolver": (at_fuser(extra="\\${oc.decode:'{_target_: os.system}'}"), "oc.decode"),
    "an escaped name": (
        lambda c: c["model"].update(other={"_target_": "\\${model.evil}"}, evil="os.system"),
        r"model\.other\._target_ is '\${model.evil}'",
    ),
    "a circle": (at_fuser(extra="${.extra}"), "cannot be resolved|Recursive"),
    "a pickled file of weights": (
        lambda c: c["model"]["image_encoder"]["trunk"].update(weights_path="evil.pt"),
        "weights_path loads a file",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_of_a_hostile_yaml_is_called(kind: str, tmp_path: Path, monkeypatch) -> None:
    change, message = HOSTILE[kind]
    content = copy.deepcopy(yaml.safe_load(Path(NANO).read_text()))
    change(content)
    assert_refused(yaml.safe_dump(content), message, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: !!python/object/apply:os.system ['false']\n", "cannot be read as YAML"),
        ("model: {a: &a {b: *a}}\n", "cannot be read as YAML|recursive"),
        (
            "a0: &a0 [x]\n"
            + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(12)),
            "more than 20000 values",
        ),
        ("model: [", "cannot be read as YAML"),
        ("model: " + "[" * 100_000, "nested more than 100 levels"),
        ("model: text\n", "no top-level key 'model'"),
        ("- model\n", "no top-level key 'model'"),
        ("model: {a: 1}\n", "is no YAML of SAM 2's"),
        ("model: {memory_attention: {layer: 3}}\n", "is no YAML of SAM 2's"),
    ],
)
def test_what_is_no_network(text: str, message: str, tmp_path: Path, monkeypatch) -> None:
    assert_refused(text, message, tmp_path, monkeypatch)


def assert_refused(text: str, message: str, folder: Path, monkeypatch) -> None:
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("something was called")

    monkeypatch.setattr(hydra.utils, "instantiate", called)
    path = folder / "network.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        SAM2Model(None, str(path), image_size=SIZE).load("cpu")


def test_a_target_among_the_arguments_of_the_model() -> None:
    with pytest.raises(ConfigError, match="os.system"):
        network_config(NANO, SIZE, {"sam_mask_decoder_extra_args": SYSTEM})


def test_the_yamls_of_sam2_pass() -> None:
    assert len(SHIPPED) >= 8
    for path in [*SHIPPED, "network/sam2.1_nano.yaml"]:
        config = network_config(path, 512)
        assert config.model._target_ == NETWORK_CLASS
        assert network_yaml(path).is_file()


def test_interpolations_of_values_follow_the_configuration(tmp_path: Path) -> None:
    content = yaml.safe_load(Path(NANO).read_text())
    content["model"]["_target_"] = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    content["model"]["num_maskmem"] = 5
    content["model"]["max_obj_ptrs_in_encoder"] = "${model.num_maskmem}"
    path = tmp_path / "network.yaml"
    path.write_text(yaml.safe_dump(content))
    network = build_network(network_config(str(path), SIZE, {"num_maskmem": 3}))
    assert (network.num_maskmem, network.max_obj_ptrs_in_encoder) == (3, 3)
