"""The recipe: the settings that are identical for every variant, read from and written to TOML, and fingerprinted."""

import hashlib
import json
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import tomli_w

from aezoo.errors import AezooError, did_you_mean, spelled

BUILT_IN = ("default", "quick", "tuned", "large")
Precision = Literal["float32", "tf32", "bfloat16"]
"""How products are computed; `aezoo.train.engine.arithmetic` says what each means."""
Layout = Literal["contiguous", "channels_last"]
"""How a network's weights lie in memory; `aezoo.train.layout` has the rule."""
Optimizer = Literal["adam", "adamw", "sgd", "muon"]
Schedule = Literal["constant", "cosine", "linear"]
_DEFAULTS: dict[str, dict[str, float]] = {
    "adamw": {"weight_decay": 0.01}, "sgd": {"momentum": 0.9}, "muon": {"weight_decay": 0.1, "momentum": 0.95},
}  # fmt: skip
"""Of an optimiser, what is not written of it: torch's defaults; of SGD the momentum of most papers."""
_TAKEN_BY = {"weight_decay": ("adamw", "sgd", "muon"), "momentum": ("sgd", "muon")}
_BUDGET = ("steps", "epochs", "images")
_IF_SET = ("validation", "weight_decay", "momentum", "clip_norm", "ema", "warmup")
"""Settings that a fingerprint has only where they are not 0 or none: so it is the same as before there were such."""
SYNONYMS = {
    "learning_rate": "lr", "wd": "weight_decay", "grad_clip": "clip_norm", "gradient_clip": "clip_norm",
    "max_grad_norm": "clip_norm", "num_epochs": "epochs", "max_steps": "steps", "num_steps": "steps",
    "bs": "batch_size", "scheduler": "schedule", "warmup_steps": "warmup", "num_seeds": "seeds", "seed": "seeds",
}  # fmt: skip
"""What other programs call settings, and how they are called here."""
_NO_EFFECT_ON_A_LOSS = {"name", "seeds", "timing_rounds", "metrics"}


Rate = Annotated[float, pydantic.Field(gt=0)]
VALIDATION = 0.1
"""The share that is held out where a list of rates is given, and nothing else is said."""


class Recipe(pydantic.BaseModel):
    """The settings that are identical for every variant.

    Exactly one of `steps`, `epochs` and `images` is given: the budget. A step is one update from one batch; an
    epoch is a pass over the training images; images are counted as often as they are seen. Batches are always full:
    they are cut from an endless run of shuffled epochs, so a batch may span two of them.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = pydantic.Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    dataset: str = pydantic.Field(default="mnist-5k", description="a data set's text, or a path")
    seeds: int = pydantic.Field(default=1, ge=1, description="seeds 0 to N-1 of every variant are run")
    timing_rounds: int = pydantic.Field(default=5, ge=1, description="rounds of the throughput measurement")
    steps: int | None = pydantic.Field(default=None, ge=1, description="the budget: updates, each from one batch")
    epochs: float | None = pydantic.Field(default=None, gt=0, description="the budget: passes over the training images")
    images: int | None = pydantic.Field(default=None, ge=1, description="the budget: images, as often as they are seen")
    batch_size: int = pydantic.Field(default=128, ge=1, description="images of a step")
    loss: Literal["mse"] = pydantic.Field(default="mse", description="the same for all: mse is the one that there is")
    optimizer: Optimizer = pydantic.Field(
        default="adam", description="muon updates matrices and kernels; the rest of its network has adamw"
    )
    weight_decay: float = pydantic.Field(
        default=0.0, ge=0, description="what a step takes of a weight, over lr: of adamw 0.01, of muon 0.1 by default"
    )
    momentum: float = pydantic.Field(
        default=0.0, ge=0, lt=1, description="of sgd 0.9, of muon 0.95 by default; the others have none"
    )
    clip_norm: float | None = pydantic.Field(
        default=None, gt=0, description="the norm of all gradients together, above which they are scaled down to it"
    )
    ema: float | None = pydantic.Field(
        default=None, gt=0, lt=1, description="what a step keeps of the moving average of the weights that is scored"
    )
    lr: Rate | list[Rate] = pydantic.Field(default=1e-3, description="one for all; of several, each variant's own best")
    validation: float = pydantic.Field(
        default=0.0, ge=0, lt=1, description="share of the training images, the same for all, that is held out"
    )
    schedule: Schedule = pydantic.Field(default="constant", description="cosine and linear fall to 0 at the end")
    warmup: float = pydantic.Field(
        default=0.0, ge=0, lt=1, description="share of the steps over which lr rises in equal steps to its whole"
    )
    precision: Precision = pydantic.Field(
        default="float32", description="how products are computed: float32, tf32 or bfloat16"
    )
    metrics: list[str] = pydantic.Field(default=[], description="computed after the score; a column each")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _what_the_optimizer_has_by_default(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        return {**_DEFAULTS.get(str(settings.get("optimizer")), {}), **settings}

    @pydantic.model_validator(mode="after")
    def _what_the_optimizer_takes(self) -> Self:
        for name, optimizers in _TAKEN_BY.items():
            value = getattr(self, name)
            if value and self.optimizer not in optimizers:
                raise ValueError(f"{name} = {value} is for {', '.join(optimizers)}, but optimizer is {self.optimizer}")
        return self

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Self:
        budgets = [unit for unit in _BUDGET if getattr(self, unit) is not None]
        if len(budgets) != 1:
            raise ValueError(f"give the budget once, as steps, epochs or images, but got {budgets or 'none'}")
        return self

    @pydantic.model_validator(mode="after")
    def _rates_to_choose_from(self) -> Self:
        if isinstance(self.lr, list):
            if len(set(self.lr)) < 2 or self.lr != sorted(set(self.lr)):
                raise ValueError(f"lr: give one rate, or two and more in order, each once, but got {self.lr}")
            if not self.validation:
                raise ValueError(
                    f"lr: a rate is chosen by the MSE on images that are held out: give validation = {VALIDATION}"
                )
        return self

    @property
    def rates(self) -> list[float]:
        """The learning rates that each variant chooses from; none where there is one for all."""
        return self.lr if isinstance(self.lr, list) else []

    @property
    def rate(self) -> float:
        """The learning rate; of several, the one in the middle, for what is stepped before one is chosen."""
        return self.lr[(len(self.lr) - 1) // 2] if isinstance(self.lr, list) else self.lr

    @property
    def updates(self) -> str:
        """How weights are updated: ``adamw, learning rate 0.001, weight decay 0.01, cosine``."""
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        parts = [
            self.optimizer,
            f"each variant's best learning rate of {rates}" if rates else f"learning rate {self.rate:g}",
            *([f"weight decay {self.weight_decay:g}"] if self.weight_decay else []),
            *([f"momentum {self.momentum:g}"] if self.momentum else []),
            *([self.schedule] if self.schedule != "constant" else []),
            *([f"{100 * self.warmup:g} % warm-up"] if self.warmup else []),
            *([f"gradients clipped at {self.clip_norm:g}"] if self.clip_norm is not None else []),
            *([f"averaged by {self.ema:g}"] if self.ema is not None else []),
        ]
        return ", ".join(parts)

    def num_steps(self, num_train: int) -> int:
        """Convert the budget to steps, for a data set of `num_train` training images; rounded up."""
        if self.steps is not None:
            return self.steps
        images = self.images if self.images is not None else (self.epochs or 0) * num_train
        return math.ceil(images / self.batch_size)

    def loss_settings(self, *, num_train: int, dataset_sha256: str, dataset: str | None = None) -> dict[str, Any]:
        """Return everything that can change a loss, by name, the budget in steps.

        Args:
            num_train: The training images.
            dataset_sha256: The hash of the pixels.
            dataset: The data set's text without where its files lie, where it says that.
        """
        settings = self.model_dump(exclude=_NO_EFFECT_ON_A_LOSS | set(_BUDGET))
        settings = {name: value for name, value in settings.items() if name not in _IF_SET or value}
        settings |= {} if dataset is None else {"dataset": dataset}
        return settings | {"steps": self.num_steps(num_train), "dataset_sha256": dataset_sha256}

    def change(self, **changes: Any) -> "Recipe":
        """Return a copy with some settings changed; a budget in one unit replaces one in another.

        Raises:
            AezooError: a value is not accepted.
        """
        changed = {name: value for name, value in changes.items() if value is not None}
        settings = self.model_dump(exclude_none=True)
        if any(unit in changed for unit in _BUDGET):
            settings = {name: value for name, value in settings.items() if name not in _BUDGET}
        if "optimizer" in changed:
            settings = {name: value for name, value in settings.items() if name not in _TAKEN_BY}
        return _validated(settings | changed, f"recipe {self.name}")

    def to_toml(self) -> str:
        """Write the recipe as TOML; `read_recipe` reads it back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def fingerprint(loss_settings: dict[str, Any]) -> str:
    """Return 12 hex digits over everything that can change a loss. Two losses compare only where they agree."""
    text = json.dumps(loss_settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_recipe(name_or_path: str | Path) -> Recipe:
    """Read a built-in recipe by name, or a TOML file.

    Raises:
        AezooError: no such recipe or file, not TOML, or a setting that is not accepted.
    """
    text = str(name_or_path)
    text = text if Path(text).is_file() else spelled(text, BUILT_IN)
    if text in BUILT_IN:
        source = resources.files("aezoo").joinpath("recipes", f"{text}.toml").read_text(encoding="utf-8")
        where = f"recipe {text}"
    else:
        path = Path(text)
        if not path.is_file():
            raise AezooError(
                f"no recipe {text!r}: give {' or '.join(BUILT_IN)}, or the path of a TOML file."
                + did_you_mean(text, BUILT_IN)
            )
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AezooError(f"recipe {path}: {error}") from error
        where = f"recipe {path}"
    try:
        settings = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise AezooError(f"{where}: not TOML: {error}") from error
    return _validated({"name": Path(text).stem} | settings, where)


def _validated(settings: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(settings)
    except pydantic.ValidationError as error:
        # Of a field that takes one of two kinds, the deepest fault tells most.
        first = max(error.errors(), key=lambda fault: len(fault["loc"]))
        # What pydantic calls the kinds is no part of a setting's name.
        name = ".".join(str(part) for number, part in enumerate(first["loc"]) if not number or isinstance(part, int))
        if first["type"] == "extra_forbidden":
            accepted = ", ".join(Recipe.model_fields)
            raise AezooError(
                f"{where}: no setting {name!r}; it accepts {accepted}."
                + did_you_mean(SYNONYMS.get(name, name), Recipe.model_fields)
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        field = Recipe.model_fields.get(str(first["loc"][0]) if first["loc"] else "")
        meaning = f" ({field.description})" if field is not None and field.description else ""
        got = f", but got {first['input']!r}{meaning}" if name else ""
        raise AezooError(f"{where}: {name + ': ' if name else ''}{message}{got}") from error
