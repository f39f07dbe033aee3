"""What a call asks for: one frozen object that Python and the command line build once, and pass on."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from aezoo.contract.recipe import SYNONYMS, Recipe, read_recipe
from aezoo.errors import AezooError, did_you_mean

Positive = Annotated[int, pydantic.Field(ge=1)]


class Request(pydantic.BaseModel):
    """The settings of a call: `help(aezoo.bench)` says what each takes."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    variants: tuple[Any, ...] = pydantic.Field(
        default=(),
        description="Names, patterns and variants, such as `mlp`, `conv*`, `conv[latent_dim=16]`; or what is not "
        "installed: `./my_model.py`, `my_package.models:build`, a function, a class or an Architecture.",
    )
    every: bool = pydantic.Field(default=False, description="All declared variants of all architectures.")
    plugins: tuple[Any, ...] = pydantic.Field(
        default=(),
        description="Files or modules whose plugins take part too, though they are not installed; functions, classes "
        "and Architectures, whose variants can then be named: `Net[latent=4]`.",
    )
    block: tuple[str, ...] = pydantic.Field(default=(), description="Plugins or distributions to be left out.")
    recipe: Recipe = pydantic.Field(
        default="default",
        validate_default=True,
        description="A recipe, the name of a built-in one, or the path of a TOML file.",
    )
    dataset: Any = pydantic.Field(
        default=None,
        description="In place of the recipe's data set: another one's text, `images[path=photos,size=64]`; a path, "
        "`./photos` or `./x.npz`; an array or a tensor of images; arrays by name; a data set of torch; two of these, "
        "those to train on and those that test; ((x_train, y_train), (x_test, y_test)); or Images, such as "
        "`aezoo.Arranged(values='signed').images({'images': x})`, which says what numbers mean.",
    )
    skip_bad: bool = pydantic.Field(
        default=False, description="Whether files of the data set that cannot be read are left out."
    )
    latent_dims: tuple[Positive, ...] = pydantic.Field(
        default=(), description="Replaces `latent_dim` of each architecture that has it."
    )
    match_params: Positive | None = pydantic.Field(
        default=None,
        description="Chooses `width` of each architecture that has it, for so many parameters; the observer hears what "
        "was chosen, and for what there was nothing to choose.",
    )
    out: Path | None = pydantic.Field(
        default=None,
        description="The run's folder; by default one under `results` that the recipe's fingerprint names. Trials "
        "whose records it holds are not run again.",
    )
    data_dir: Path | None = pydantic.Field(
        default=None,
        description="Where data sets are kept; by default the variable AEZOO_DATA_DIR, or a folder in the user's "
        "cache.",
    )
    device: str = pydantic.Field(default="auto", description="`auto`, `cpu`, `cuda` or `mps`.")
    jobs: Positive | None = pydantic.Field(
        default=None,
        description="Trials side by side; by default as many as the cores hold on a CPU, one on an accelerator, and as "
        "many as a cluster has room for.",
    )
    executor: str = pydantic.Field(
        default="local",
        description="How trials are run; a plugin may contribute other ways than processes on this machine.",
    )
    address: str | None = pydantic.Field(
        default=None,
        description="Where the executor's machines are to be had: of `ray`, `auto` or HOST:PORT; by default what "
        "RAY_ADDRESS says, else this machine alone.",
    )
    threads: Positive = pydantic.Field(
        default=1,
        description="Threads of a trial on a CPU. Losses of runs with different ones differ in the last digits; so a "
        "trial with another number of threads is another trial.",
    )
    processes: Positive = pydantic.Field(
        default=1,
        description="Processes of a trial, each with so many threads, or a GPU of its own, and its part of every "
        "batch. With more than one it is another trial.",
    )
    seeds_together: Positive = pydantic.Field(
        default=1,
        description="Seeds of a variant that train at the same time in one process, on an NVIDIA device, where a CUDA "
        "graph takes the steps of each and none draws random numbers; no more of them than its memory holds. Their "
        "losses are those of trials that run alone.",
    )
    graphs: bool = pydantic.Field(
        default=True,
        description="Whether, on an NVIDIA device, CUDA graphs take the steps of a network where they come bit by bit "
        "to the same as steps that are taken one by one.",
    )
    compiled: bool = pydantic.Field(
        default=False,
        description="Whether steps and the timed inference go through torch.compile; that makes another trial too. The "
        "time to compile is recorded apart.",
    )
    timeout: float | None = pydantic.Field(default=None, gt=0, description="Seconds after which a trial is killed.")
    checkpoint_minutes: float | None = pydantic.Field(
        default=None,
        gt=0,
        description="Minutes between two checkpoints of a trial; where it is killed, the same call goes on from the "
        "last one, bit by bit. None for none.",
    )
    timing: bool = pydantic.Field(default=True, description="Whether to measure throughput at the end.")
    report: bool = pydantic.Field(default=True, description="Whether to write the page of the run, report.html.")
    weights: Literal["all", "best", "none"] = pydantic.Field(
        default="all",
        description="Whose weights are kept in the run: of all trials; of the best seed of each variant, by its test "
        "MSE; or of none. What is not kept can be loaded, exported and measured no more.",
    )
    keep_old: bool = pydantic.Field(
        default=False,
        description="Whether the rows of variants that are trained anew, since their plugins, aezoo or torch have "
        "changed, stay in the table beside the new ones.",
    )
    retry_failed: bool = pydantic.Field(
        default=False, description="Whether to run trials again whose records say that they failed."
    )
    strict: bool = pydantic.Field(
        default=False, description="Whether a plugin that cannot be loaded, or uses what is deprecated, is an error."
    )

    @pydantic.field_validator("variants", "plugins", "block", "latent_dims", mode="before")
    @classmethod
    def _a_list(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        if isinstance(value, Mapping):
            example = (
                ", such as ['mlp[latent_dim=4]']: settings stand in brackets" if info.field_name == "variants" else ""
            )
            raise ValueError(f"give a list of {info.field_name}{example}, but got a dictionary, {value!r:.60}")
        if isinstance(value, str | Path) or callable(value) or not hasattr(value, "__iter__"):
            text = repr(str(value)) if isinstance(value, str | Path) else str(getattr(value, "__name__", repr(value)))
            what = {"latent_dims": "sizes", "block": "plugins to be left out"}.get(
                str(info.field_name), info.field_name
            )
            raise ValueError(f"give a list of {what}, such as [{text}], but got {text} itself")
        return tuple(value)

    @pydantic.field_validator("recipe", mode="before")
    @classmethod
    def _a_recipe(cls, value: Any) -> Any:
        return value if isinstance(value, Recipe) else read_recipe(value)

    @pydantic.model_validator(mode="after")
    def _checkpoints_of_one_trial(self) -> Self:
        if self.seeds_together > 1 and self.checkpoint_minutes is not None:
            raise ValueError("trials whose seeds run together keep no checkpoints: give one of the two settings")
        return self

    @classmethod
    def described(cls) -> str:
        """Return what each setting takes, and each of a recipe that may be given beside it, a paragraph each."""
        quick = "Whether the recipe is `quick`, of few steps."
        own = {name: field.description or "" for name, field in cls.model_fields.items()} | {"quick": quick}
        recipes = {name: Recipe.model_fields[name].description or "" for name in cls.settings_of_recipes()}
        parts = {"Settings": own, "Settings of a recipe, to change it": recipes}
        fill = textwrap.TextWrapper(width=100, initial_indent=" " * 4, subsequent_indent=" " * 8).fill
        return "\n\n".join(
            "\n".join([f"{head}:", *(fill(f"{name}: {text}") for name, text in some.items())])
            for head, some in parts.items()
        )

    @classmethod
    def settings_of_recipes(cls) -> list[str]:
        """Return the settings of a recipe that a call may give beside it."""
        return [name for name in Recipe.model_fields if name != "name" and name not in cls.model_fields]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Request":
        """Return the request with these settings.

        Raises:
            AezooError: there is no such setting, or it does not take such a value.
        """
        settings = dict(settings)
        # What is a recipe's alone may be given beside it.
        changes = {name: settings.pop(name) for name in list(settings) if name in cls.settings_of_recipes()}
        if settings.pop("quick", False):
            if settings.get("recipe", "quick") != "quick":
                raise AezooError("quick is a recipe of its own, but another one was given too; give one of them")
            settings["recipe"] = "quick"
        if changes:
            recipe = settings.get("recipe", "default")
            settings["recipe"] = (recipe if isinstance(recipe, Recipe) else read_recipe(recipe)).change(**changes)
        try:
            return cls(**settings)
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
        name = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            names = [*cls.model_fields, "quick", *cls.settings_of_recipes()]
            raise AezooError(
                f"no setting {name!r}; it accepts {', '.join(names)}." + did_you_mean(SYNONYMS.get(name, name), names)
            )
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "value_error":
            raise AezooError(message)
        raise AezooError(f"{name}: {message[0].lower()}{message[1:]}, but got {fault['input']!r}")


def document(function: Callable[..., Any]) -> None:
    """Let ``help`` show the settings of a request, and of a recipe, in the place of a function's ``**settings``."""
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = {each.name for each in own}
    settings: dict[str, tuple[Any, Any]] = {"quick": (False, bool)}
    settings |= {name: (field.default, field.annotation) for name, field in Request.model_fields.items()}
    settings |= {name: (None, Recipe.model_fields[name].annotation) for name in Request.settings_of_recipes()}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (default, annotation) in settings.items()
        if name not in names
    ]
    signature = inspect.signature(function).replace(parameters=[*own, *parameters])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = f"{inspect.getdoc(function)}\n\n{Request.described()}\n"
