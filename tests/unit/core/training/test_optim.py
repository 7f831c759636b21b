"""Optimizers, their parameter groups and learning rates over time."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from sam2vt.config import OptimizerConfig, SchedulerConfig
from sam2vt.core.training import optim
from sam2vt.core.training.optim import (
    build_optimizer,
    build_scheduler,
    clip_gradients,
    gradient_norm,
    hold_updates,
    learning_rate,
    parameter_groups,
    parameters_of,
)
from sam2vt.errors import ConfigError
from sam2vt.settings import choices

OPTIMIZERS, SCHEDULERS = choices(OptimizerConfig, "type"), choices(SchedulerConfig, "type")

LR = 0.5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.layer = nn.Linear(4, 4)


class Network(nn.Module):
    """The names that matter in SAM 2's network, with few numbers behind them."""

    def __init__(self, num_blocks: int = 3) -> None:
        super().__init__()
        trunk = nn.Module()
        trunk.patch_embed = nn.Conv2d(3, 4, 1)
        trunk.pos_embed = nn.Parameter(torch.zeros(1, 4, 2, 2))
        trunk.blocks = nn.ModuleList(Block() for _ in range(num_blocks))
        self.image_encoder = nn.Module()
        self.image_encoder.trunk = trunk
        self.image_encoder.neck = nn.Conv2d(4, 4, 1)
        self.sam_mask_decoder = nn.Module()
        self.sam_mask_decoder.mask_tokens = nn.Embedding(3, 4)
        self.sam_mask_decoder.head = nn.Linear(4, 4)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(7, 1, 1, 4))


def settings_of(network: nn.Module, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(network, config)
        for parameter in group["params"]
    }


def rates(
    config: SchedulerConfig, steps: int, total: int, lrs: tuple[float, ...] = (LR,)
) -> list[list[float]]:
    """The learning rates of each group at each of `steps` optimizer steps."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups, lr=LR)
    scheduler = build_scheduler(optimizer, config, total)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return seen


def test_every_trainable_parameter_is_in_one_group() -> None:
    network = Network()
    network.image_encoder.neck.requires_grad_(False)
    groups = parameter_groups(network, OptimizerConfig(layer_decay=0.5))
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in network.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)


def test_only_weights_of_layers_decay() -> None:
    settings = settings_of(Network(1), OptimizerConfig(weight_decay=0.25))
    decayed = {name for name, (_, decay) in settings.items() if decay}
    assert decayed == {
        "image_encoder.trunk.patch_embed.weight",
        "image_encoder.trunk.blocks.0.layer.weight",
        "image_encoder.neck.weight",
        "sam_mask_decoder.head.weight",
    }
    assert {decay for _, decay in settings.values()} == {0.0, 0.25}


def test_the_encoder_has_its_own_rate_that_falls_towards_the_input() -> None:
    config = OptimizerConfig(lr=1.0, encoder_lr=0.5, layer_decay=0.1)
    settings = settings_of(Network(3), config)
    assert settings["sam_mask_decoder.head.weight"][0] == 1.0
    assert settings["maskmem_tpos_enc"][0] == 1.0
    assert settings["image_encoder.neck.weight"][0] == 0.5
    assert settings["image_encoder.trunk.pos_embed"][0] == 0.5
    for block, power in ((2, 1), (1, 2), (0, 3)):
        assert settings[f"image_encoder.trunk.blocks.{block}.layer.bias"][0] == pytest.approx(
            0.5 * 0.1**power
        )
    assert settings["image_encoder.trunk.patch_embed.weight"][0] == pytest.approx(0.5 * 0.1**4)


def test_without_an_encoder_rate_it_learns_at_the_common_one() -> None:
    assert {lr for lr, _ in settings_of(Network(), OptimizerConfig(lr=LR)).values()} == {LR}
    assert learning_rate("image_encoder.neck.weight", 3, OptimizerConfig(lr=LR)) == LR


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_each_type_is_built_with_its_settings(kind: str, expected: type) -> None:
    config = OptimizerConfig(type=kind, lr=LR, betas=(0.8, 0.95), eps=1e-6)
    optimizer = build_optimizer(Network(), config)
    assert type(optimizer) is expected
    if kind == "sgd":
        assert optimizer.defaults["momentum"] == 0.8
    else:
        assert optimizer.defaults["betas"] == (0.8, 0.95)
        assert optimizer.defaults["eps"] == 1e-6


def test_an_unknown_optimizer_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.type='lion'.*adamw, adam, sgd"):
        build_optimizer(Network(), OptimizerConfig(type="lion"))


def test_an_unknown_scheduler_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.type='poly'.*cosine, step, constant"):
        rates(SchedulerConfig(type="poly"), 1, 1)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no parameter trains"):
        build_optimizer(Network().requires_grad_(False), OptimizerConfig())


def test_a_disabled_scheduler_leaves_the_rate_alone() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    assert build_scheduler(optimizer, SchedulerConfig(enabled=False), 10) is None


def test_cosine_follows_its_formula_and_never_rises_again() -> None:
    seen = [lr for (lr,) in rates(SchedulerConfig(T_max=10, eta_min=0.1), 30, total=1000)]
    expected = [0.1 + (LR - 0.1) * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)]
    assert seen[:11] == pytest.approx(expected)
    assert seen[11:] == pytest.approx([0.1] * 19)
    assert all(later <= earlier for earlier, later in itertools.pairwise(seen))


def test_cosine_without_an_end_takes_the_whole_run() -> None:
    seen = rates(SchedulerConfig(), 21, total=20)
    assert seen[0] == [LR]
    assert seen[10] == pytest.approx([LR / 2])
    assert seen[20] == pytest.approx([0.0])


def test_groups_keep_their_ratio() -> None:
    seen = rates(SchedulerConfig(T_max=10, eta_min=LR / 10), 12, total=12, lrs=(LR, LR / 50))
    assert all(slow == pytest.approx(fast / 50) for fast, slow in seen)
    assert seen[-1] == pytest.approx([LR / 10, LR / 500])


@pytest.mark.parametrize("kind", ["cosine", "step", "constant"])
def test_warm_up_is_linear_and_then_the_curve_begins(kind: str) -> None:
    seen = [lr for (lr,) in rates(SchedulerConfig(type=kind, warmup_steps=4, step_size=3), 20, total=20)]
    assert seen[:5] == pytest.approx([LR / 4, LR / 2, LR * 3 / 4, LR, LR])
    plain = [lr for (lr,) in rates(SchedulerConfig(type=kind, step_size=3), 16, total=16)]
    assert seen[4:] == pytest.approx(plain)


def test_steps_multiply_by_gamma() -> None:
    seen = [lr for (lr,) in rates(SchedulerConfig(type="step", step_size=3, gamma=0.5), 9, total=9)]
    assert seen == pytest.approx([LR] * 3 + [LR / 2] * 3 + [LR / 4] * 3)


def test_constant_stays() -> None:
    assert rates(SchedulerConfig(type="constant"), 5, total=5) == [[LR]] * 5


def test_a_run_shorter_than_its_warm_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"warmup_steps=10: the run has 2 optimizer steps.*at most 2"):
        rates(SchedulerConfig(warmup_steps=10), 2, total=2)


def test_with_a_length_of_its_own_the_schedule_may_outlast_the_run() -> None:
    seen = rates(SchedulerConfig(warmup_steps=10, T_max=20), 2, total=2)
    assert seen == [pytest.approx([LR / 10]), pytest.approx([LR / 5])]


def test_every_name_that_a_configuration_may_have_is_there() -> None:
    assert tuple(optim._OPTIMIZERS) == OPTIMIZERS
    assert tuple(optim._CURVES) == SCHEDULERS


def test_the_schedule_resumes_where_it_stopped() -> None:
    config = SchedulerConfig(T_max=10)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = build_scheduler(optimizer, config, 10)
    assert scheduler is not None
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    again = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    resumed = build_scheduler(again, config, 10)
    assert resumed is not None
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    for one, other in ((optimizer, scheduler), (again, resumed)):
        one.step()
        other.step()
    assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] < LR


def train(optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def weights_and_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    state = [value for values in optimizer.state.values() for value in values.values()]
    return [value.detach().clone() for value in [*network.parameters(), *state]]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_held_updates_leave_weights_and_state_and_count(kind: str) -> None:
    network = nn.Linear(5, 3)
    optimizer = build_optimizer(network, OptimizerConfig(type=kind, lr=0.01))
    held = torch.zeros(())
    assert hold_updates(optimizer, held)
    train(optimizer, steps=2, seed=0)
    before = weights_and_state(network, optimizer)
    assert len(before) > 2
    held.fill_(1.0)
    network.weight.grad = torch.full((3, 5), float("nan"))
    optimizer.step()
    train(optimizer, steps=2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_and_state(network, optimizer)))
    held.fill_(0.0)
    train(optimizer, steps=1, seed=1)
    assert not torch.equal(before[0], network.weight)


def test_a_plain_optimizer_cannot_hold_and_steps_as_ever() -> None:
    network = nn.Linear(5, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    assert not hold_updates(optimizer, torch.ones(()))
    before = network.weight.detach().clone()
    train(optimizer, steps=1, seed=0)
    assert not torch.equal(before, network.weight)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_fused_updates_equal_plain_ones(kind: str) -> None:
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5))
        optimizer = build_optimizer(network, OptimizerConfig(type=kind, lr=0.01))
        for group in optimizer.param_groups:
            assert group["fused"]
            group["fused"] = fused
        train(optimizer, steps=20, seed=3)
        results.append(weights_and_state(network, optimizer))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_parameter_may_get_its_first_gradient_later_than_others(kind: str) -> None:
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = nn.Linear(5, 3)
        optimizer = build_optimizer(network, OptimizerConfig(type=kind, lr=0.01, weight_decay=0.0))
        (group,) = optimizer.param_groups
        group["fused"] = fused

        def give(*parameters: nn.Parameter) -> None:
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)

        for parameters in ([network.weight], [network.weight, network.bias], [network.bias]):
            optimizer.zero_grad()
            optimizer.step(partial(give, *parameters))  # gradients come within the step, as in Lightning
        results.append(list(network.parameters()))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_without_momentum_no_state_is_kept() -> None:
    network = nn.Linear(2, 1)
    optimizer = build_optimizer(network, OptimizerConfig(type="sgd", betas=(0.0, 0.999)))
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not any(state.get("momentum_buffer") is not None for state in optimizer.state.values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_clips_the_gradients_of_a_fused_optimizer(precision: str, tmp_path) -> None:
    import lightning as L

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1, bias=False)
            nn.init.zeros_(self.layer.weight)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).float().sum() * 1000

        def configure_optimizers(self):
            return build_optimizer(self, OptimizerConfig(type="sgd", lr=1.0, betas=(0.0, 0.999)))

    module = Module()
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", precision=precision, gradient_clip_val=0.5, **settings
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.tensor([[3.0, 4.0]]), batch_size=1))
    torch.testing.assert_close(module.layer.weight.detach(), torch.tensor([[-0.3, -0.4]]), rtol=1e-2, atol=0)


def test_a_scaler_that_skips_leaves_a_fused_optimizer_alone() -> None:
    network = nn.Linear(2, 1, bias=False)
    optimizer = build_optimizer(network, OptimizerConfig(lr=0.1))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before, scaled = network.weight.detach().clone(), 0
    for value in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(network(torch.full((1, 2), value)).sum()).backward()
        scaler.unscale_(optimizer)  # as Lightning does before it clips
        scaler.step(optimizer)
        scaler.update()
        scaled += torch.equal(network.weight, before)
    assert scaled == 1
    assert optimizer.state[network.weight]["step"] == 1


@pytest.fixture(params=[True, False], ids=["separate norm", "torch 2.5"])
def separate_norm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "_HAS_SEPARATE_NORM", request.param and optim._HAS_SEPARATE_NORM)


def layer_with_gradient(*gradient: float) -> nn.Linear:
    module = nn.Linear(2, 1)
    module.weight.grad = torch.tensor([[gradient[0], 0.0]])
    module.bias.grad = torch.tensor([gradient[1]])
    return module


def test_the_norm_leaves_the_gradients_as_they_are(separate_norm: None) -> None:
    assert gradient_norm(list(nn.Linear(2, 1).parameters())) == 0
    module = layer_with_gradient(3.0, 4.0)
    assert gradient_norm(list(module.parameters())) == 5
    assert module.weight.grad.tolist() == [[3.0, 0.0]]


@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clipping_by_a_known_norm_is_pytorchs_own(separate_norm: None, limit: float) -> None:
    ours, plain = layer_with_gradient(3.0, 4.0), layer_with_gradient(3.0, 4.0)
    parameters = parameters_of(torch.optim.SGD(ours.parameters()))
    clip_gradients(parameters, limit, gradient_norm(parameters))
    nn.utils.clip_grad_norm_(plain.parameters(), limit)
    for one, other in zip(ours.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
