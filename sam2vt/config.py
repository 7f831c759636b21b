"""Declare every setting of a run: name, type, default, allowed values, unit and meaning.

`sam2vt.configuration` reads, checks and documents settings by these declarations; docs/settings.md lists
them. Importing this module loads neither torch nor Ray.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from sam2vt.data_config import BY_COLOUR as BY_COLOUR
from sam2vt.data_config import READING as READING
from sam2vt.data_config import AugmentConfig as AugmentConfig
from sam2vt.data_config import DatasetConfig, ValDatasetConfig
from sam2vt.errors import ConfigError
from sam2vt.settings import (
    AMOUNT,
    DEVICE,
    DEVICES,
    NUMBER_OF_WORKERS,
    Rule,
    above,
    at_least,
    default_of,
    follow,
    is_given,
    make_pair,
    one_of,
    remember_given,
    setting,
    some_of,
    types_of,
    within,
)

# OmegaConf reads the annotations below: it needs typing's Dict, List, Optional, Tuple and Union spelled out,
# and makes a float of an integer where only a float is named.
# Sections whose defaults follow others' (`@remember_given`) tell a given value from a default one.

_FRACTION = Rule(lambda v: 0 < v < 1, "above 0 and below 1")
_SHARE = within(0, 1)
_DROPOUT = Rule(lambda v: 0 <= v < 1, "from 0 to below 1, or null for the network's own")
_DECAY = Rule(lambda v: 0 < v < 1, "above 0 and below 1, or null for no average")
_FACTOR = Rule(lambda v: 0 < v <= 1, "above 0 and up to 1")
_NON_EMPTY = Rule(lambda v: len(v) > 0, "not empty")
_NAME = Rule(
    lambda v: v.isprintable() and not {"/", "\\"} & set(v) and v.strip(". ") != "",
    "a name, not empty and without / and \\, nor . or ..: output_dir takes a path",
)
# Hiera's deepest features have a 32nd of the side.
_SIDE = Rule(lambda v: v > 0 and v % 32 == 0, "a positive multiple of 32", unit="pixels")
_STRIDE = Rule(lambda v: v == 16, "16, the stride from which masks are decoded", unit="pixels")
_PARTS = ("memory_attention", "memory_encoder", "mask_decoder")
_ADAPTED = ("image_encoder", "memory_attention", "mask_decoder")  # by default
_SEED = Rule(lambda v: 0 <= v < 2**32, "from 0 to 4294967295")  # the seeds that NumPy takes
_SET_NAME = re.compile(r"[A-Za-z0-9_-]+")


def _are_sets(value: Any) -> bool:
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return named and all(_SET_NAME.fullmatch(n) and isinstance(each, dict) for n, each in value.items())


_SETS = Rule(
    _are_sets,
    "a mapping of names (of letters, digits, _ and -) to settings, such as {davis: {data_path: davis}}",
)
_FRAMES, _STEPS, _CPUS = at_least(1, "frames"), at_least(1, "optimizer steps"), at_least(1, "CPUs")

# The adapters, each with the parts of the network that it adds parameters to, whatever its settings.
ADAPTED_PARTS: Dict[str, Tuple[str, ...]] = {"none": ()}

# The files of a folder in the form of transformers that make a checkpoint: its network and its weights.
HF_CONFIG, HF_WEIGHTS = HF_FILES = ("config.json", "model.safetensors")

# The loggers, each with the module that it needs.
LOGGER_PACKAGES: Dict[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "csv": "lightning",
}
# Loggers that group runs and store files.
TRACKERS = ("wandb", "mlflow")


_ADAPTER = one_of(*ADAPTED_PARTS)._replace(text=f"{', '.join(ADAPTED_PARTS)}, or an adapter that you added")


def _limit(unit: str) -> Rule:
    return Rule(lambda v: v == -1 or v >= 1, "at least 1, or -1 for no limit", unit=unit)


@dataclass
class EmaConfig:
    """An exponential moving average of the weights that train: it is validated, saved and exported."""

    decay: Optional[float] = setting(
        None, "Share of the average that each step keeps, such as 0.999; null: no average.", _DECAY
    )
    start_step: int = setting(
        0, "The average begins with the weights after this step.", at_least(0, "optimizer steps")
    )


@dataclass
class LoraConfig:
    """Low-rank adapters (LoRA) of linear layers, which train while the layers' own weights stay frozen."""

    rank: Optional[int] = setting(
        None,
        "Rank of the adapters, such as 8; null: no adapters.",
        at_least(1)._replace(text="at least 1, or null for no adapters"),
    )
    alpha: float = setting(16.0, "What the adapters add is scaled by alpha / rank.", above(0))
    dropout: float = setting(
        0.0, "Dropout of what the adapters read.", _DROPOUT._replace(text="from 0 to below 1")
    )
    targets: List[str] = setting(
        list(_ADAPTED),
        "Modules whose linear layers get adapters: names or patterns.",
        Rule(lambda v: len(v) > 0 and all(v), "a list of at least one name or pattern"),
    )


@remember_given
@dataclass
class ModelConfig:
    """SAM 2's network: where its weights come from, what trains, and its architecture."""

    checkpoint_path: Optional[str] = setting(
        None,
        "Weights: a local file, transformers' folder, s3://..., gs://... or hf://...; null: random weights.",
        path="input",
    )
    config_path: str = setting(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        "The network: a YAML file, a name below configs/, or a name inside the sam2 package.",
        _NON_EMPTY,
        path="network",
    )
    trainable_modules: List[str] = setting(
        list(_PARTS),
        'Modules that train: names or patterns such as image_encoder.neck or "*"; norms: norms and biases.',
        Rule(all, "a list of names or patterns"),
    )
    device: str = setting("auto", "Where load() puts the weights outside of Lightning.", DEVICE)
    num_maskmem: int = setting(7, "Frames in the memory bank.", _FRAMES)
    image_size: int = setting(512, "Side of the square input.", _SIDE)
    backbone_stride: int = setting(16, "Stride of the features that the memory works on.", _STRIDE)
    use_obj_ptrs_in_encoder: bool = setting(True, "Memory attention also reads object pointers.")
    max_obj_ptrs_in_encoder: int = setting(
        16, "Maximum number of frames whose object pointers are read.", at_least(1)
    )
    add_tpos_enc_to_obj_ptrs: bool = setting(True, "Object pointers get a temporal position encoding.")
    proj_tpos_enc_in_obj_ptrs: bool = setting(
        True, "The temporal position encoding is projected before it is added."
    )
    use_signed_tpos_enc_to_obj_ptrs: bool = setting(
        True, "The temporal position encoding tells past from future."
    )
    multimask_output_in_sam: bool = setting(True, "Prompted frames predict several masks.")
    multimask_output_for_tracking: bool = setting(True, "Tracked frames predict several masks too.")
    max_objects: int = setting(
        3, "Follows max_objects of the root, and must equal it.", at_least(1, "objects")
    )
    num_correction_clicks: int = setting(
        0, "Number of correction clicks in training, on frames prompted by points or boxes.", at_least(0)
    )
    correction_from_gt: float = setting(0.1, "Share of clicks drawn from the mask, not from errors.", _SHARE)
    bptt_frames: Optional[int] = setting(
        None, "Frames after which the gradient through the memory is cut; null: never.", _FRAMES
    )
    presence_from_gt: bool = setting(True, "Train with presence from the ground truth where it is known.")
    # Features of this precision are also those that a feature cache stores.
    encoder_precision: Optional[str] = setting(
        None, "bf16: for a frozen image encoder alone; null: as the trainer.", one_of("bf16")
    )
    memory_dropout: Optional[float] = setting(
        None, "Dropout of the memory attention; null: the network's own, 0.1 in SAM 2.", _DROPOUT
    )
    compile: List[str] = setting(
        [],
        "Parts compiled by torch.compile; rounding and random draws change.",
        some_of("image_encoder", *_PARTS),
    )
    pad_memory: bool = setting(False, "Pad the memory to one shape, for a compiled memory_attention.")
    cuda_graphs: bool = setting(False, "Replay the compiled parts as CUDA graphs; needs pad_memory.")
    recompute: List[str] = setting(
        [],
        "Parts with activation checkpointing: less memory, more time.",
        some_of("image_encoder", "encoder_blocks", *_PARTS),
    )
    speedups: str = setting(
        "auto",
        "auto: faster on CPUs; dropout has the same distribution but a different random stream, "
        "and freed memory stays with the process. none: SAM 2's own modules.",
        one_of("auto", "none"),
    )
    postprocessing: str = setting(
        "stock",
        "Masks on whole videos. stock: as SAM 2's video predictor makes them; none: as in training.",
        one_of("stock", "none"),
    )
    adapter: str = setting("none", "Small parameters trained beside frozen weights.", _ADAPTER)
    adapter_settings: Optional[Dict[str, Any]] = setting(None, "The adapter's own settings, a mapping.")
    lora: LoraConfig = field(default_factory=LoraConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)


@dataclass
class LossConfig:
    """Weights of the loss terms, and the pixels that they are computed on."""

    bce_weight: float = setting(1.0, "Weight of the binary cross-entropy of the masks.", at_least(0))
    dice_weight: float = setting(1.0, "Weight of the dice loss of the masks.", at_least(0))
    iou_weight: float = setting(0.5, "Weight of the soft Jaccard loss of the masks.", at_least(0))
    temporal_weight: float = setting(
        0.1, "Weight of the L1 error between predicted and true change from frame to frame.", at_least(0)
    )
    smooth: float = setting(1e-6, "Added to numerator and denominator of dice and Jaccard.", above(0))
    iou_head_weight: float = setting(1.0, "Weight of SAM 2's IoU predictions against the IoU.", at_least(0))
    presence_weight: float = setting(1.0, "Weight of SAM 2's object scores.", at_least(0))
    focal_weight: float = setting(0.0, "Weight of the focal loss of the masks.", at_least(0))
    # Both are faster, but results change.
    resolution: str = setting(
        "full", "Size of the compared masks; low: a quarter of the side, faster.", one_of("full", "low")
    )
    num_points: Optional[int] = setting(
        None, "Points compared per mask in training, mostly uncertain ones; null: all.", at_least(1, "points")
    )

    @classmethod
    def weights(cls) -> Tuple[str, ...]:
        """Return the names of the settings that weight a term."""
        return tuple(name for name in cls.__dataclass_fields__ if name.endswith("_weight"))


@dataclass
class OptimizerConfig:
    """The optimizer and its learning rates."""

    type: str = setting("adamw", "The optimizer.", one_of("adamw", "adam", "sgd"))
    lr: float = setting(5e-5, "Learning rate.", above(0))
    weight_decay: float = setting(0.1, "Weight decay; none on biases, norms and embeddings.", at_least(0))
    betas: Tuple[float, float] = setting(
        (0.9, 0.999),
        "Decay rates of the moments; sgd takes the first as momentum.",
        Rule(lambda v: all(0 <= beta < 1 for beta in v), "two numbers from 0 to below 1"),
    )
    eps: float = setting(1e-8, "Added to Adam's denominator.", above(0))
    # A rate of 0 would keep the encoder's activations for gradients that nothing uses.
    encoder_lr: Optional[float] = setting(
        None,
        "Learning rate of image_encoder; null: lr.",
        Rule(lambda v: 0 < v < math.inf, "above 0; to freeze it, see model.trainable_modules"),
    )
    layer_decay: float = setting(1.0, "Factor on the learning rate per trunk block before the neck.", _FACTOR)

    def __post_init__(self) -> None:
        make_pair(self, "betas", "two numbers")


@dataclass
class SchedulerConfig:
    """The learning rate over the optimizer's steps."""

    enabled: bool = setting(True, "false keeps the learning rate constant, without warm-up.")
    type: str = setting("cosine", "Shape of the curve.", one_of("cosine", "step", "constant"))
    T_max: Optional[int] = setting(None, "Step at which the cosine ends; null: the end of the run.", _STEPS)
    eta_min: float = setting(0.0, "Last lr of the cosine; other rates keep their ratio to it.", at_least(0))
    step_size: int = setting(1000, "step: steps per factor.", _STEPS)
    gamma: float = setting(0.1, "step: factor on the learning rate.", _FACTOR)
    warmup_steps: int = setting(0, "Linear warm-up from lr / warmup_steps.", at_least(0, "optimizer steps"))


@dataclass
class TrainerConfig:
    """Length, validations and devices of a run, mostly arguments of Lightning's Trainer."""

    accelerator: str = setting("auto", "Kind of device.", one_of("auto", "cpu", "gpu", "cuda", "mps"))
    devices: Any = setting("auto", "Devices to train on; -1: all.", DEVICES)
    precision: str = setting("32-true", "Numeric precision.", one_of("32-true", "bf16-mixed", "16-mixed"))
    max_epochs: int = setting(10, "Epochs after which the run ends.", _limit("epochs"))
    gradient_clip_val: float = setting(0.1, "Largest norm of the gradient; 0: no clipping.", at_least(0))
    accumulate_grad_batches: int = setting(1, "Batches per optimizer step.", at_least(1, "batches"))
    limit_train_batches: Union[int, float] = setting(
        1.0, "Batches per epoch; a float is a share of all.", AMOUNT
    )
    limit_val_batches: Union[int, float] = setting(
        1.0,
        "The same for validation batches and videos.",
        Rule(lambda v: v == 0 or AMOUNT.fits(v), f"{AMOUNT.text}; 0 for no validation"),
    )
    val_check_interval: Union[int, float] = setting(
        1.0, "Validate after this share of an epoch, or after this many batches.", AMOUNT
    )
    num_sanity_val_steps: int = setting(0, "Validation batches before training; -1: all.", at_least(-1))
    enable_checkpointing: bool = setting(True, "Write checkpoints.")
    enable_progress_bar: bool = setting(True, "Draw a progress bar in a terminal.")
    logger: bool = setting(True, "Log values; loggers says where.")
    log_every_n_steps: int = setting(10, "Steps from one logged row to the next.", at_least(1, "steps"))
    early_stopping_patience: Optional[int] = setting(
        None, "Validations without a better J&F after which the run ends; null: never.", at_least(1)
    )
    max_steps: int = setting(-1, "Optimizer steps after which the run ends.", _limit("optimizer steps"))
    check_val_every_n_epoch: int = setting(1, "Validate after this many epochs.", at_least(1, "epochs"))
    num_overlay_videos: int = setting(4, "Number of validation videos drawn at the end.", at_least(0))
    checkpoint_every_n_steps: Optional[int] = setting(
        None, "Steps between checkpoints, in addition to those at validations and ends of epochs.", _STEPS
    )
    keep_best: int = setting(1, "Checkpoints kept for their J&F, besides the newest.", at_least(1))


@dataclass
class RayConfig:
    """How `ray_jobs/train.py` runs a training on Ray."""

    address: Optional[str] = setting(None, "Address of the cluster; null: RAY_ADDRESS, else this machine.")
    local_cpus: Optional[int] = setting(None, "Logical CPUs of a Ray on this machine; null: all.", _CPUS)
    num_workers: Any = setting(
        2, "Training workers; {min: 2, max: 8} shrinks and grows with the cluster.", NUMBER_OF_WORKERS
    )
    cpus_per_worker: int = setting(1, "CPUs per worker.", _CPUS)
    use_gpu: bool = setting(False, "One GPU per worker.")
    worker_resources: Dict[str, float] = setting(
        {},
        "Further resources per worker, such as {trainer_slot: 1}.",
        Rule(
            lambda v: "CPU" not in v and all(n > 0 for n in v.values()),
            "names with numbers above 0; CPUs are ray.cpus_per_worker",
        ),
    )
    decode_actors: int = setting(
        1, "Processes that decode clips, one CPU each; they replace dataset.num_workers.", at_least(1)
    )
    decode_labels: Dict[str, str] = setting({}, "Nodes that may decode, such as {pool: data}; empty: all.")
    prefetch_batches: int = setting(2, "Batches read ahead per worker.", at_least(0, "batches"))
    storage_path: Optional[str] = setting(
        None, "Folder that all nodes share, or a URI; null: output_dir's parent.", path="output"
    )
    name: Optional[str] = setting(None, "Name of the run in the storage; null: output_dir's name.", _NAME)
    max_failures: int = setting(0, "Failures after which the run ends; -1: never.", at_least(-1))
    collective_timeout_seconds: float = setting(
        1800.0, "Time after which a rank that does not answer counts as failed.", above(0, "seconds")
    )
    resize_check_seconds: float = setting(
        60.0, "Time between two checks whether more workers fit.", above(0, "seconds")
    )

    @property
    def max_workers(self) -> int:
        """The full number of workers; with the batch size it fixes the clips per step."""
        return self.num_workers["max"] if isinstance(self.num_workers, dict) else self.num_workers

    @property
    def min_workers(self) -> int:
        """The number of workers below which the run waits for more."""
        return self.num_workers["min"] if isinstance(self.num_workers, dict) else self.num_workers


def _given_of(settings: Any) -> Any:
    """Return the settings that a validation set was given, from a program that gave it as a section."""
    if not isinstance(settings, ValDatasetConfig):
        return settings
    return {name: value for name, value in asdict(settings).items() if is_given(settings, name)}


@dataclass
class Config:
    """Everything that describes a run.

    If `model.max_objects` is not given, it follows `max_objects`. One image size is enough: sizes that are
    not given follow that of the model, else that of a dataset.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    valdataset: ValDatasetConfig = field(default_factory=ValDatasetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    name: str = setting("default", "Name of the experiment, the run folder and the logger.", _NAME)
    max_objects: int = setting(3, "Maximum number of objects per clip; others are left out.", at_least(1))
    seed: int = setting(0, "Seed of everything random.", _SEED)
    split: str = setting(
        "none",
        "Validate on the training videos (none), on whole videos (video), or on each video's end (time).",
        one_of("none", "video", "time"),
    )
    val_fraction: float = setting(0.2, "Share of the videos, or of each video, to hold back.", _FRACTION)
    valdatasets: Dict[str, Any] = setting(
        {},
        "Further validation sets by name, such as {davis: {data_path: davis}}, logged as val/davis/J&F; what "
        "they do not give is valdataset's.",
        _SETS,
    )
    resume: Optional[str] = setting(
        None, "A checkpoint or run folder to resume from; auto: the newest of this run, if any.", path="input"
    )
    on_bad_sample: str = setting(
        "fail",
        "End the run, or leave the clip out of the loss and list it in quarantine.jsonl.",
        one_of("fail", "quarantine"),
    )
    loggers: List[str] = setting(
        [],
        "Loggers, several at once; empty: tensorboard, or wandb with use_wandb.",
        some_of(*LOGGER_PACKAGES),
    )
    use_wandb: bool = setting(False, "Log to Weights & Biases.")
    wandb_project: str = setting("sam2vt", "Weights & Biases project.", _NON_EMPTY)
    mlflow_uri: Optional[str] = setting(
        None,
        "MLflow's store, such as http://host:5000; null: MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db.",
        _NON_EMPTY,
    )
    mlflow_experiment: str = setting("sam2vt", "MLflow experiment.", _NON_EMPTY)
    group: Optional[str] = setting(
        None, "Runs that W&B and MLflow show together; null: the sweep that a trial belongs to.", _NON_EMPTY
    )
    log_checkpoint: bool = setting(True, "W&B and MLflow store the best checkpoint of a run, too.")
    output_dir: str = setting("runs/default", "Folder of the run.", _NON_EMPTY, path="output")
    save_dir: str = setting("", "Folder of the checkpoints; empty: output_dir/checkpoints.", path="output")
    log_level: str = setting(
        "INFO", "Lowest level that is logged.", one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    )
    style: str = setting(
        "paper", "Ground of a run's pictures: light, as for print, or dark.", one_of("paper", "screen")
    )

    def __post_init__(self) -> None:
        for name, kind in types_of(self).items():
            section = getattr(self, name)
            if is_dataclass(kind) and not isinstance(section, kind):  # type: ignore[arg-type]
                text = f"must be a {kind.__name__}; load_config reads mappings"  # type: ignore[union-attr]
                raise ConfigError(f"{name}={section!r}: {text}")
        if isinstance(self.valdatasets, dict):
            self.valdatasets = {name: _given_of(each) for name, each in self.valdatasets.items()}
        if self.output_dir == default_of(Config, "output_dir"):
            self.output_dir = f"runs/{self.name}"
        self.model = follow(self.model, "max_objects", self.max_objects)
        if self.model.lora.rank is not None:  # the adapters alone
            self.model = follow(self.model, "trainable_modules", [])
        given = [
            each.image_size[0] for each in (self.dataset, self.valdataset) if is_given(each, "image_size")
        ]
        self.model = follow(self.model, "image_size", given[0] if given else self.model.image_size)
        size = (self.model.image_size, self.model.image_size)
        self.dataset = follow(self.dataset, "image_size", size)
        self.valdataset = follow(self.valdataset, "image_size", size)

    @property
    def chosen_loggers(self) -> List[str]:
        """Names of the loggers that the run has."""
        wandb = ["wandb"] if self.use_wandb else []
        return list(dict.fromkeys([*self.loggers, *wandb])) or ["tensorboard"] if self.trainer.logger else []

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.save_dir or f"{self.output_dir}/checkpoints")


# Settings that have no effect where another one is false, 0, null or empty.
NEEDS = {
    "model.add_tpos_enc_to_obj_ptrs": "model.use_obj_ptrs_in_encoder",
    "model.max_obj_ptrs_in_encoder": "model.use_obj_ptrs_in_encoder",
    "model.proj_tpos_enc_in_obj_ptrs": "model.add_tpos_enc_to_obj_ptrs",
    "model.use_signed_tpos_enc_to_obj_ptrs": "model.add_tpos_enc_to_obj_ptrs",
    "model.multimask_output_for_tracking": "model.multimask_output_in_sam",
    "model.correction_from_gt": "model.num_correction_clicks",
    "model.cuda_graphs": "model.compile",
    "model.lora.alpha": "model.lora.rank",
    "model.lora.dropout": "model.lora.rank",
    "model.lora.targets": "model.lora.rank",
    "model.ema.start_step": "model.ema.decay",
    "dataset.augment.blur_sigma": "dataset.augment.blur_probability",
    "dataset.augment.noise_std": "dataset.augment.noise_probability",
    "dataset.augment.jpeg_quality": "dataset.augment.jpeg_probability",
    "trainer.early_stopping_patience": "trainer.limit_val_batches",
    "trainer.val_check_interval": "trainer.limit_val_batches",
    "trainer.check_val_every_n_epoch": "trainer.limit_val_batches",
    "trainer.checkpoint_every_n_steps": "trainer.enable_checkpointing",
    "trainer.keep_best": "trainer.enable_checkpointing",
    "valdatasets": "trainer.limit_val_batches",
    "loggers": "trainer.logger",
    "use_wandb": "trainer.logger",
}

# Values that trials can be compared by, and which end of them is best.
OBJECTIVES = {
    "val/J&F": "max",
    "val/J": "max",
    "val/F": "max",
    "seconds_per_step": "min",
    "clips_per_second": "max",
}


@dataclass
class SweepConfig:
    """Many runs of one configuration with different values, made by `ray_jobs/tune.py`."""

    space: Dict[str, Any] = setting(
        {}, "Settings to vary, nested like the configuration; a leaf is a range or a choice."
    )
    algorithm: str = setting("tpe", "How values are drawn; tpe is Optuna's.", one_of("tpe", "random", "grid"))
    scheduler: str = setting(
        "asha",
        "asha and median end bad trials early; pbt passes on the weights of the best.",
        one_of("asha", "median", "pbt", "none"),
    )
    # One trial would be the unswept configuration alone.
    num_trials: int = setting(
        16, "Trials; the first is always the unswept configuration.", Rule(lambda v: v >= 2, "at least 2")
    )
    objectives: List[str] = setting(["val/J&F"], f"One or two of {', '.join(OBJECTIVES)}; the first decides.")
    seed: int = setting(0, "Seed of the drawn values.", _SEED)
    max_concurrent: Optional[int] = setting(
        None, "Trials at the same time; null: as many as fit on the cluster.", at_least(1)
    )
    keep_best: int = setting(1, "Trials whose checkpoints are kept, besides the unswept one.", at_least(1))
    grace: float = setting(0.25, "Share of a run during which no trial is ended.", _FRACTION)
    reduction: float = setting(
        3.0, "asha: one of this many trials passes a rung.", Rule(lambda v: v > 1, "above 1")
    )
    perturb_every: float = setting(0.2, "pbt: share of a run between two exchanges of weights.", _FRACTION)
    quantile: float = setting(
        0.25,
        "pbt: share of trials, the worst, that copy the weights of the best.",
        Rule(lambda v: 0 < v <= 0.5, "above 0 and up to 0.5"),
    )
