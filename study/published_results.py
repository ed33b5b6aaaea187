"""Published accuracies: arXiv 2404.00228 (InfLoRA), arXiv 2501.13198 (SD-LoRA), released logs."""

from dataclasses import dataclass

BACKBONES = {
    "inflora": "vit_base_patch16_224.augreg_in21k",
    "sd_lora": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
INFLORA_PAPER = "InfLoRA's paper (arXiv 2404.00228)"
INFLORA_LOGS = "InfLoRA's released logs"
SD_LORA_PAPER = "SD-LoRA's paper (arXiv 2501.13198)"


@dataclass(frozen=True)
class PublishedResult:
    """One published row: accuracies are shares in [0, 1], means over the published seeds.

    `label` is the method as the source calls it, `method` its name here (None: this project has
    none). `final` is A_T on test images ("Acc"), `anytime` the mean of A_1 … A_T ("AAA"), each
    with the standard deviation over seeds where the source gives one. `family` is whose protocol
    (data, backbone, seeds) it was measured with; `training_stated` is false where the source is a
    comparison that does not say with which settings it trained the method.
    """

    data: str
    tasks: int
    label: str
    method: str | None
    final: float
    anytime: float | None
    source: str
    family: str
    final_std: float | None = None
    anytime_std: float | None = None
    training_stated: bool = True

    @property
    def backbone(self) -> str:
        """The timm model that the source used."""
        return BACKBONES[self.family]


# Acc and AAA in percent, as in the comparison of SD-LoRA's paper, which has no deviations here.
# fmt: off
COLUMNS = (
    ("imagenet_r", 5), ("imagenet_r", 10), ("imagenet_r", 20), ("imagenet_a", 10), ("domainnet", 5),
)
COMPARISON = (
    ("Full fine-tuning", None, (
        (64.92, 75.57), (60.57, 72.31), (49.95, 65.32), (16.31, 30.04), (51.46, 67.08))),
    ("L2P", None, (
        (73.04, 76.94), (71.26, 76.13), (68.97, 74.16), (42.94, 51.40), (70.26, 75.83))),
    ("DualPrompt", None, (
        (69.99, 72.24), (68.22, 73.81), (65.23, 71.30), (45.49, 54.68), (68.26, 73.84))),
    ("CODA-Prompt", None, (
        (76.63, 80.30), (74.05, 78.14), (69.38, 73.95), (45.36, 57.03), (70.58, 76.68))),
    ("HiDe-Prompt", None, (
        (74.77, 78.15), (74.65, 78.46), (73.59, 77.93), (42.70, 56.32), (72.20, 77.01))),
    ("InfLoRA", "inflora", (
        (76.95, 81.81), (74.75, 80.67), (69.89, 76.68), (49.20, 60.92), (71.59, 78.29))),
    ("SD-LoRA", "sd_lora", (
        (79.15, 83.01), (77.34, 82.04), (75.26, 80.22), (55.96, 64.95), (72.82, 78.89))),
    ("SD-LoRA-RR", "sd_lora_rr", (
        (79.01, 82.50), (77.18, 81.74), (74.05, 80.65), (55.59, 64.59), (72.58, 78.79))),
    ("SD-LoRA-KD", "sd_lora_kd", (
        (78.85, 82.47), (77.03, 81.52), (74.12, 80.11), (54.24, 63.89), (72.15, 78.44))),
)
# fmt: on


def _compared() -> tuple[PublishedResult, ...]:
    return tuple(
        PublishedResult(
            data=data,
            tasks=tasks,
            label=label,
            method=method,
            final=round(final / 100, 4),
            anytime=round(anytime / 100, 4),
            source=SD_LORA_PAPER,
            family="sd_lora",
            training_stated=method is not None and method.startswith("sd_lora"),
        )
        for label, method, row in COMPARISON
        for (data, tasks), (final, anytime) in zip(COLUMNS, row, strict=True)
    )


RESULTS: tuple[PublishedResult, ...] = (
    *_compared(),
    PublishedResult("imagenet_r", 10, "InfLoRA", "inflora", 0.7565, None, INFLORA_PAPER, "inflora"),
    PublishedResult(
        "imagenet_r", 10, "InfLoRA", "inflora", 0.7534, 0.8060, INFLORA_LOGS, "inflora", 0.0022
    ),
    PublishedResult(
        "cifar100",
        10,
        "InfLoRA",
        "inflora",
        0.8651,
        0.9170,
        INFLORA_PAPER,
        "inflora",
        0.0073,
        0.0032,
    ),
    PublishedResult(
        "cifar100", 10, "InfLoRA", "inflora", 0.8633, 0.9118, INFLORA_LOGS, "inflora", 0.0073
    ),
    PublishedResult("cifar100", 10, "SD-LoRA", "sd_lora", 0.8801, 0.9254, SD_LORA_PAPER, "sd_lora"),
)
