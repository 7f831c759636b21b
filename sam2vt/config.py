"""The configuration as plain dataclasses, and `validate`, which finds every fault at once.

Importing this module loads neither torch nor Ray. What the values may be stands in `sam2vt.configuration`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from sam2vt.errors import ConfigError

# OmegaConf reads these annotations: it needs typing's Dict, List, Optional and Tuple spelled out.


@dataclass
class ModelConfig:
    """SAM 2's network: where its weights lie, what trains, and its architecture fields."""

    checkpoint_path: Optional[str] = None
    config_path: str = "configs/sam2.1/sam2.1_hiera_t.yaml"
    trainable_modules: List[str] = field(
        default_factory=lambda: ["memory_attention", "memory_encoder", "mask_decoder"]
    )
    device: str = "auto"
    num_maskmem: int = 7
    image_size: int = 512
    backbone_stride: int = 16
    use_obj_ptrs_in_encoder: bool = True
    max_obj_ptrs_in_encoder: int = 16
    add_tpos_enc_to_obj_ptrs: bool = True
    proj_tpos_enc_in_obj_ptrs: bool = True
    use_signed_tpos_enc_to_obj_ptrs: bool = True
    multimask_output_in_sam: bool = True
    multimask_output_for_tracking: bool = True
    max_objects: int = 3
    # Correction clicks while training, on prompted frames of objects prompted by points or boxes.
    num_correction_clicks: int = 0
    correction_from_gt: float = 0.1  # share of clicks drawn from the mask instead of from the errors
    # Frames after which the gradient through the memory is cut; null: never.
    bptt_frames: Optional[int] = None
    # While training, presence comes from the ground truth where it is known.
    presence_from_gt: bool = True
    # Of a frozen image encoder: bf16, or null for that of the trainer. Its features then are those that a
    # feature cache holds.
    encoder_precision: Optional[str] = None
    # Of the memory attention, its weights' included; null: what the network's YAML says, 0.1 in SAM 2's.
    memory_dropout: Optional[float] = None
    # Parts that torch.compile makes faster code of, at their first step; what they round and draw differs.
    compile: List[str] = field(default_factory=list)
    # Fill the memory up to one shape on all frames, for a memory attention that is compiled for one.
    pad_memory: bool = False
    # Replay the compiled parts as CUDA graphs, which launches their kernels at once.
    cuda_graphs: bool = False
    # Parts whose activations are computed again in backward instead of kept: less memory, more time.
    recompute: List[str] = field(default_factory=list)
    # auto: computations that give equal results in less CPU time; none: SAM 2's own modules.
    speedups: str = "auto"


@dataclass
class AugmentConfig:
    """How drawn clips are altered; the defaults leave them as they are.

    Lengths are shares of the model's input; a colour's 0.1 is a factor from 0.9 to 1.1.
    """

    # From several clips.
    mosaic_probability: float = 0.0  # that the clip and three others lie in a grid of 2 x 2
    paste_probability: float = 0.0  # that an object of another clip lies over it, as a distractor
    # The same motion for all frames of a clip, and for their masks.
    flip_probability: float = 0.0  # left to right
    degrees: float = 0.0  # turned by up to this, either way
    translate: float = 0.0  # shifted by up to this, in x and y
    scale: Tuple[float, float] = (1.0, 1.0)  # zoomed about the centre
    shear: float = 0.0  # degrees, along x
    crop_area: Tuple[float, float] = (1.0, 1.0)  # share of the frame that is cut out and fills it again
    crop_ratio: Tuple[float, float] = (1.0, 1.0)  # by how much it is stretched in x against y
    scale_jitter: Tuple[float, float] = (1.0, 1.0)  # zoomed, and put anywhere
    # The same colours for all frames of a clip.
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # share of the colour circle
    grayscale_probability: float = 0.0
    # Drawn for each frame of its own.
    frame_brightness: float = 0.0
    frame_contrast: float = 0.0
    frame_saturation: float = 0.0
    blur_probability: float = 0.0
    blur_sigma: Tuple[float, float] = (0.5, 2.0)  # pixels
    noise_probability: float = 0.0
    noise_std: Tuple[float, float] = (0.01, 0.05)  # of a range of colours from 0 to 1
    jpeg_probability: float = 0.0
    jpeg_quality: Tuple[int, int] = (30, 90)

    def __post_init__(self) -> None:
        for name in ("scale", "crop_area", "crop_ratio", "scale_jitter", "blur_sigma", "noise_std"):
            setattr(self, name, _pair(getattr(self, name), name, "(least, most)"))
        self.jpeg_quality = _pair(self.jpeg_quality, "jpeg_quality", "(least, most)")


@dataclass
class DatasetConfig:
    """A dataset and how clips and prompts are drawn from it."""

    dataset_type: str = "auto"
    data_path: str = ""
    image_size: Tuple[int, int] = (512, 512)
    video_clip_length: int = 5
    batch_size: int = 1
    num_workers: int = 4
    shuffle: bool = True
    prompt_types: List[str] = field(default_factory=lambda: ["point", "box", "mask"])
    num_of_pos_points: int = 1
    num_of_neg_points: int = 0
    include_center_point: bool = False
    clips_per_video: int = 1
    frame_stride: int = 1
    max_frame_stride: Optional[int] = (
        None  # drawn a clip, from frame_stride to this; null: always frame_stride
    )
    reverse_probability: float = 0.0  # that a clip runs backwards
    min_object_pixels: int = 0  # of the video: objects that stay smaller in a clip are left out of it
    object_sampling: str = (
        "uniform"  # of more than max_objects: uniform, visible (by frames) or large (by area)
    )
    # Frames of a clip on which an object is prompted: 1 to this many, drawn a clip.
    max_conditioning_frames: int = 1
    identity: str = "error"  # COCO without track ids: error, category or iou
    image_root: Optional[str] = None  # COCO: where file_name starts; null: the JSON's folder
    allow_absolute_paths: bool = False  # COCO: files outside the JSON's folder and image_root
    colours: Optional[Dict[str, List[int]]] = None  # masks in colours: class -> [red, green, blue]
    # Features of frames in place of images, where the encoder is frozen: a folder, a URI, or auto.
    feature_cache: Optional[str] = None
    # In place of data_path several sets: mappings of data_path, name, weight or repeat, and what differs.
    datasets: Any = field(default_factory=list)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        self.image_size = _pair(self.image_size, "image_size", "(height, width)")

    @property
    def is_given(self) -> bool:
        """Whether it names data."""
        return bool(self.data_path or self.datasets)


@dataclass
class ValDatasetConfig(DatasetConfig):
    """The validation set; without data of its own it means the training set's, divided by `split`."""

    shuffle: bool = False
    prompt_types: List[str] = field(default_factory=lambda: ["mask"])
    # DAVIS leaves the first and last frame of a video out of J and F; true scores them too.
    score_first_and_last: bool = False


@dataclass
class LossConfig:
    """Weights of the loss's terms; see `sam2vt.core.training.loss`."""

    bce_weight: float = 1.0
    dice_weight: float = 1.0
    iou_weight: float = 0.5
    temporal_weight: float = 0.1
    smooth: float = 1e-6
    iou_head_weight: float = 1.0
    presence_weight: float = 1.0
    focal_weight: float = 0.0
    # Cheaper, with other numbers: masks measured at a quarter of the side (low), or at so many points each.
    resolution: str = "full"
    num_points: Optional[int] = None


@dataclass
class OptimizerConfig:
    type: str = "adamw"  # adamw, adam or sgd, whose momentum is betas[0]
    lr: float = 5e-5
    weight_decay: float = 0.1
    betas: Tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    encoder_lr: Optional[float] = None  # null: lr
    layer_decay: float = 1.0  # factor on the learning rate a trunk block away from the neck

    def __post_init__(self) -> None:
        self.betas = _pair(self.betas, "betas", "two numbers")


@dataclass
class SchedulerConfig:
    enabled: bool = True
    type: str = "cosine"  # cosine, step or constant; all step per optimizer step
    T_max: Optional[int] = None  # optimizer steps; null: the run's total
    eta_min: float = 0.0  # where the cosine ends for `optimizer.lr`; other groups keep their ratio to it
    step_size: int = 1000
    gamma: float = 0.1
    warmup_steps: int = 0


@dataclass
class TrainerConfig:
    accelerator: str = "auto"
    devices: Any = "auto"
    precision: str = "32-true"
    max_epochs: int = 10
    gradient_clip_val: float = 0.1
    accumulate_grad_batches: int = 1
    # An int counts batches, a float is a share of an epoch's, as in Lightning.
    limit_train_batches: float = 1.0
    limit_val_batches: float = 1.0
    val_check_interval: float = 1.0
    num_sanity_val_steps: int = 0
    enable_checkpointing: bool = True
    enable_progress_bar: bool = True
    logger: bool = True
    log_every_n_steps: int = 10
    early_stopping_patience: Optional[int] = None
    max_steps: int = -1
    check_val_every_n_epoch: int = 1
    num_overlay_videos: int = 4  # validation videos drawn as overlays at the end
    checkpoint_every_n_steps: Optional[int] = None  # beside those at validations and epoch ends
    keep_best: int = 1  # checkpoints kept for their J&F, beside the newest ones


@dataclass
class RayConfig:
    """Where the steps run when `ray_jobs/train.py` runs them."""

    address: Optional[str] = None  # null: the cluster of RAY_ADDRESS, else Ray on this machine
    local_cpus: Optional[int] = None  # logical CPUs of a Ray started on this machine
    num_workers: Any = 2  # a number, or {min: 2, max: 8} for a run that shrinks and grows with the cluster
    cpus_per_worker: int = 1
    use_gpu: bool = False
    worker_resources: Dict[str, float] = field(default_factory=dict)  # of a worker, beside CPUs and the GPU
    decode_actors: int = 1
    decode_labels: Dict[str, str] = field(default_factory=dict)  # of the nodes that may decode; empty: all
    prefetch_batches: int = 2
    storage_path: Optional[str] = None  # null: output_dir's parent
    name: Optional[str] = None  # null: output_dir's name
    max_failures: int = 0
    collective_timeout_seconds: float = 1800.0  # until a rank that does not answer counts as failed
    resize_check_seconds: float = 60.0  # between two looks for room to grow

    @property
    def max_workers(self) -> int:
        """The full number of workers; with the batch size it fixes how many clips a step takes."""
        return self.num_workers["max"] if isinstance(self.num_workers, dict) else self.num_workers

    @property
    def min_workers(self) -> int:
        """With fewer workers the run waits for more."""
        return self.num_workers["min"] if isinstance(self.num_workers, dict) else self.num_workers


@dataclass
class Config:
    """Everything a run is; `load_config` makes one from YAML, `to_dict` takes it apart again."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    valdataset: ValDatasetConfig = field(default_factory=ValDatasetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    name: str = "default"  # of the experiment: the run folder's and the logger's
    max_objects: int = 3
    seed: int = 0
    split: str = "none"  # none: validate on the training videos; video; time
    val_fraction: float = 0.2  # share of the videos, or of each video's end, that split holds back
    resume: Optional[str] = None  # a training checkpoint to go on from; auto: this run's newest, if any
    on_bad_sample: str = "fail"  # fail or quarantine: leave out of the loss and write to quarantine.jsonl
    use_wandb: bool = False
    wandb_project: str = "sam2vt"
    output_dir: str = "runs/default"
    save_dir: str = ""  # empty: output_dir/checkpoints
    log_level: str = "INFO"

    @property
    def checkpoint_dir(self) -> Path:
        """Where checkpoints go."""
        return Path(self.save_dir) if self.save_dir else Path(self.output_dir) / "checkpoints"


@dataclass
class SweepConfig:
    """Many runs with other values, which `ray_jobs/tune.py` makes; `space` says of what."""

    # Nested as the configuration; each leaf is a range or a choice: see `sam2vt.configuration.sweep_space`.
    space: Any = field(default_factory=dict)
    algorithm: str = "tpe"  # how values are drawn: tpe, random or grid
    scheduler: str = "asha"  # what ends bad trials early: asha, median or none; pbt passes weights on instead
    num_trials: int = 16  # with the first, which is always the unswept configuration
    objectives: List[str] = field(default_factory=lambda: ["val/J&F"])  # one or two; the first decides
    seed: int = 0
    max_concurrent: Optional[int] = None  # null: as many as the cluster holds
    keep_best: int = 1  # trials whose checkpoints are kept, beside the unswept one's
    grace: float = 0.25  # share of a run before which no trial is ended
    reduction: float = 3.0  # asha: one in so many goes on at each rung
    perturb_every: float = 0.2  # pbt: share of a run between two exchanges of weights
    quantile: float = 0.25  # pbt: share of the trials that take over from as many of the best


def _pair(values: Any, name: str, meaning: str) -> Tuple[Any, Any]:
    """OmegaConf and YAML give a tuple back as a list of any length."""
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ConfigError(f"{name}={values!r}: must be {meaning}")
    return (values[0], values[1])
