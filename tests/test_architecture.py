"""Variants and hyperparameters: one text for one thing, and a wrong one named."""

import string
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import aezoo
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.hyperparameters import format_settings, parse_value, parse_variant
from aezoo.errors import AezooError, ContractError


def build(
    image_shape,
    *,
    latent_dim: int = 8,
    body: Literal["mlp", "conv"] = "mlp",
    rate: float = 0.5,
    tied: bool = False,
    widths: tuple[int, ...] = (4, 2),
    note: str | None = None,
):
    raise AssertionError("never built here")


TOY = Architecture(name="toy", build=build, summary="A toy", reference="tests")


def variant(text: str) -> Variant:
    parsed = parse_variant(text)
    return Variant(architecture=TOY, hyperparameters=TOY.check(parsed.settings or {}), label="toy")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("toy", "toy"),
        ("toy[]", "toy"),
        ("toy[latent_dim=8]", "toy"),
        (" toy [ rate = 0.25 , latent_dim = 3 ] ", "toy[latent_dim=3,rate=0.25]"),
        ("toy[tied=TRUE, body=conv]", "toy[body=conv,tied=true]"),
        ("toy[rate=1]", "toy[rate=1.0]"),
        ("toy[widths=(8, 8)]", "toy[widths=(8,8)]"),
        ("toy[note='a, b=c]']", "toy[note='a, b=c]']"),
        ("toy[note=none]", "toy"),
    ],
)
def test_canonical_text_is_sorted_and_leaves_defaults_out(text, canonical):
    assert variant(text).text == canonical
    assert variant(canonical).text == canonical


_values = st.one_of(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(alphabet=string.printable, max_size=20),
    st.tuples(st.integers(), st.integers()),
)


@example({"a": "'\"", "b": None})
@example({"a": "\\", "b": "\\'\""})
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(str.isidentifier), _values, max_size=4))
def test_every_setting_survives_the_way_to_text_and_back(settings):
    assert parse_variant(f"name[{format_settings(settings)}]").settings == settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("toy[latent_dmi=3]", "toy: no hyperparameter 'latent_dmi'; it accepts latent_dim, body"),
        ("toy[latent_dmi=3]", "Did you mean 'latent_dim'?"),
        ("toy[latent_dim=big]", "toy: hyperparameter 'latent_dim' accepts int, but got 'big'"),
        ("toy[latent_dim=2.5]", "accepts int, but got 2.5"),
        ("toy[latent_dim=true]", "accepts int, but got True"),
        ("toy[body=cnov]", "accepts 'mlp' or 'conv', but got 'cnov'. Did you mean 'conv'?"),
        ("toy[rate=1e999]", "accepts float, but got inf"),
        ("toy[latent_dim]", "write key=value"),
        ("toy[latent_dim=1,latent_dim=2]", "given twice"),
        ("toy[latent_dim=3", "not a variant"),
        ("", "not a variant"),
    ],
)
def test_a_wrong_variant_is_one_line_that_says_what_is_accepted(text, told):
    with pytest.raises(AezooError) as caught:
        variant(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_hyperparameter_is_asked_for():
    def needy(image_shape, *, latent_dim: int):
        raise AssertionError

    with pytest.raises(AezooError, match=r"needy: hyperparameter 'latent_dim' has no default"):
        Architecture(name="needy", build=needy, summary="s", reference="r")
    assert Architecture(name="needy", build=needy, summary="s", reference="r", variants=[{"latent_dim": 2}]).check(
        {"latent_dim": 5}
    ) == {"latent_dim": 5}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "a b"}, "an architecture's name"),
        ({"name": "../up"}, "an architecture's name"),
        ({"build": 3}, "build must be callable"),
        ({"summary": " "}, "summary must be a line of text"),
        ({"build": lambda: None}, "build must take the image shape first"),
        ({"build": lambda image_shape, **rest: None}, "build must name its hyperparameters"),
    ],
)
def test_a_wrong_declaration_is_refused(changes, told):
    settings = {"name": "toy", "build": build, "summary": "s", "reference": "r"} | changes
    with pytest.raises(ContractError, match=told):
        Architecture(**settings)


def test_values_are_read_as_python_would():
    assert [parse_value(text) for text in ("3", "3.0", "true", "None", "(1,2)", "'3'", "a-b")] == [
        3, 3.0, True, None, (1, 2), "3", "a-b",
    ]  # fmt: skip


def test_the_public_names_are_these():
    assert sorted(aezoo.__all__) == [
        "API_VERSION", "Adapted", "AezooError", "Architecture", "Arranged", "Autoencoder", "AxisOrder", "Background",
        "DamagedDataError", "Dataset", "Evaluation", "Executor", "FilePixels", "Fit", "Flat", "GatheredPixels",
        "ImageForm", "ImageHead", "ImageShape", "Images", "Interrupted", "Metric", "Model", "Needs", "Observer",
        "Outcome", "Part",
        "Preprocessing", "Progress", "Range", "Recipe", "Request", "Run", "Site", "Subset", "Task", "TaskProcess",
        "TrainingOutput", "TrialRecord", "Variant", "Work", "__version__", "bench", "chunks", "create", "hookimpl",
        "list_architectures", "list_image_files", "load", "open_image", "part_of", "pixel_hash", "read_head",
        "read_recipe", "scratch_folder", "settle",
    ]  # fmt: skip
    assert all(getattr(aezoo, name) is not None for name in aezoo.__all__)


@pytest.mark.parametrize("shape", [28, (28, 28), "1x28x28", (1, 0, 28), (1, 2.5, 3)])
def test_what_is_no_image_shape_is_one_line(shape):
    with pytest.raises(aezoo.AezooError, match=r"image_shape is \(channels, height, width\).* but got"):
        aezoo.create("mlp", image_shape=shape)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"exceptions": ["gradients"]}, "exceptions are a dictionary"),
        ({"variants": ["a"]}, "variants are a list of dict"),
    ],
)
def test_what_is_no_dictionary_of_an_architecture_is_one_line(given, told):
    with pytest.raises(aezoo.AezooError, match=told):
        aezoo.Architecture(name="a", build=lambda image_shape: None, summary="s", reference="r", **given)
