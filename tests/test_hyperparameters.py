"""Hyperparameters that nobody thought of: each combination meets the contract, or is refused in a clear line."""

import typing
from types import NoneType

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo import ARCHITECTURES

from aezoo.check.case import Case
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.hyperparameters import Hyperparameter

WITH_HYPERPARAMETERS = [one for one in ARCHITECTURES.values() if one.hyperparameters]
REPEATED = ("depth", "layers", "parts", "strides", "slices")
"""What makes a network deeper, or a step longer: a few say as much as many."""
SHAPES = [(1, 8, 8), (3, 7, 5), (1, 3, 9), (2, 12, 4)]


def values(annotation: typing.Any, name: str = "") -> st.SearchStrategy[typing.Any]:
    """Draw values of a hyperparameter's annotation, the senseless ones among them."""
    if typing.get_origin(annotation) is typing.Literal:
        return st.sampled_from(typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return st.lists(values(typing.get_args(annotation)[0]), max_size=3).map(tuple)
    if parts := typing.get_args(annotation):
        return st.one_of([st.none() if part is NoneType else values(part) for part in parts])
    whole = st.integers(-1, 4) if name in REPEATED else st.integers(-2, 70)
    if name == "width":
        # Rows of one or two ReLUs are dead from most seeds, which is a fault of theirs and of no architecture.
        whole = whole.filter(lambda width: width < 1 or width >= 8)
    drawn = {
        bool: st.booleans(),
        int: whole,
        float: st.integers(-20, 60).map(lambda twentieths: twentieths / 20),
        str: st.sampled_from(["", "relu", "other"]),
    }
    return drawn[annotation]


def hyperparameters(architecture: Architecture) -> st.SearchStrategy[dict[str, typing.Any]]:
    known: dict[str, Hyperparameter] = architecture.hyperparameters
    required = {name: values(one.annotation, name) for name, one in known.items() if one.required}
    optional = {name: values(one.annotation, name) for name, one in known.items() if not one.required}
    return st.fixed_dictionaries(required, optional=optional)


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_combination_passes_or_is_refused_with_a_clear_reason(data):
    architecture = data.draw(st.sampled_from(WITH_HYPERPARAMETERS))
    given_ = architecture.check(data.draw(hyperparameters(architecture)))
    shape = data.draw(st.sampled_from(SHAPES))
    variant = Variant(architecture=architecture, hyperparameters=given_, label=architecture.name)
    for finding in examine(Case(variant, sample_images(shape)), quick=True):
        # A threshold that no activation comes near has no gradient: that is its estimate, and no fault.
        if architecture.name == "jumprelu" and "got none in 5 steps for threshold" in finding.detail:
            continue
        assert finding.status != "failed", finding
        if finding.status == "refused":
            # The reason names what was given: a hyperparameter, or the size of the images.
            named = [name for name in given_ if name in finding.detail]
            assert named or "x".join(map(str, shape[1:])) in finding.detail, finding
            assert "must be" in finding.detail or "need" in finding.detail


def test_the_strategies_know_every_annotation_of_the_zoo():
    for architecture in WITH_HYPERPARAMETERS:
        for one in architecture.hyperparameters.values():
            assert isinstance(values(one.annotation), st.SearchStrategy), f"{architecture.name}: {one.name}"
