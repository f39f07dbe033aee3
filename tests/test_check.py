"""`aezoo check` and `aezoo.testing`: the suite as authors meet it."""

import json

import pytest
from launcher import Launcher
from torch import nn

import aezoo
from aezoo.check.case import Case
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Variant
from aezoo.contract.recipe import Recipe
from aezoo.errors import ContractError
from aezoo.registry.factory import architecture_of
from aezoo.testing import check_architecture

PLUGIN = """
    import os, signal
    import aezoo
    from torch import nn

    class Net(aezoo.Autoencoder):
        def __init__(self, shape, fault):
            channels, height, width = shape
            pixels = channels * height * width
            if fault == "grey" and channels == 3:
                raise aezoo.AezooError("grey images only")
            if fault == "none_at_all":
                raise aezoo.AezooError("not today")
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(pixels, 2)),
                             nn.Sequential(nn.Linear(2, pixels), nn.Unflatten(1, shape)))
            self.skips = fault == "skip"
            if fault == "spare":
                self.spare = nn.Linear(2, 1)

        def forward(self, x):
            return super().forward(x) + (0.1 * x if self.skips else 0)

    def build(image_shape, *, fault: str = "none"):
        return Net(image_shape, fault)

    @aezoo.hookimpl
    def aezoo_architectures():
        told = dict(build=build, summary="s", reference="r")
        yield aezoo.Architecture(name="net", **told)
        yield aezoo.Architecture(name="spare", variants=[{"fault": "spare"}],
                                 exceptions={"gradients": "its spare layer is for later"}, **told)
"""


@pytest.fixture
def aezoo_check(distribute, launcher: Launcher, tmp_path):
    distribute(PLUGIN, name="net-dist")

    def run(*args):
        done = launcher.start("check", *args, cwd=tmp_path)
        return done.wait(), done.out.read_text(), done.err.read_text()

    return run


def test_check_prints_a_card_and_ends_well_where_the_contract_is_met(aezoo_check):
    code, out, err = aezoo_check("net")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:2] == ["net of net-dist 1.2: s", "1 variant, images 1x28x28, 3x32x32, 3x64x64, 1x27x19"]
    assert lines[2] == "ok      builds         builds, and names its objective"
    assert lines[-1] == "net: meets the contract"
    assert not any(line.startswith("FAIL") for line in lines)


def test_check_names_the_fault_where_it_is_and_what_it_hides(aezoo_check):
    code, out, _ = aezoo_check("net[fault=skip]", "--json")
    (card,) = json.loads(out)
    assert (code, card["passed"], card["plugin"]["distribution"]) == (1, False, "net-dist")
    failed = [one for one in card["findings"] if one["status"] == "failed"]
    assert [(one["check"], one["image_shape"]) for one in failed] == [
        ("halves", [1, 28, 28]),
        ("halves", [3, 32, 32]),
        ("halves", [3, 64, 64]),
        ("halves", [1, 27, 19]),
    ]
    assert "passes around the bottleneck; look at Net.forward, net_dist.py:" in failed[0]["detail"]
    skipped = [one for one in card["findings"] if one["check"] == "bottleneck"]
    assert {(one["status"], one["detail"]) for one in skipped} == {("skipped", "needs 'halves'")}
    code, out, _ = aezoo_check("net[fault=skip]")
    assert "FAIL    halves         decode(encode(x)) is forward(x)" in out
    assert out.endswith("net: 1 check failed\n")


def test_check_takes_a_distribution_and_tells_a_declared_exception(aezoo_check):
    code, out, _ = aezoo_check("net-dist")
    assert code == 0
    assert "except  gradients      every trained parameter gets a gradient" in out
    assert "spare[fault=spare] on 1x28x28 and 3 more: its spare layer is for later (expected a gradient for" in out
    assert [line for line in out.splitlines() if line.endswith("meets the contract")] == [
        "net: meets the contract",
        "spare: meets the contract",
    ]


def test_a_refusal_fails_where_nothing_else_is_left_and_a_crash_always(aezoo_check):
    code, out, _ = aezoo_check("net[fault=grey]")
    assert code == 0
    assert "no      builds" in out
    assert "net[fault=grey] on 3x32x32 and 1 more: grey images only" in out
    assert aezoo_check("net[fault=none_at_all]")[0] == 1
    code, out, _ = aezoo_check("net[fault=killed]")
    assert code == 1
    assert "error: its process was killed by SIGKILL" in out


def test_an_unknown_name_is_one_line(aezoo_check):
    code, out, err = aezoo_check("mpl")
    assert (code, out) == (2, "")
    assert err == "error: no architecture 'mpl'; `aezoo list` shows them all. Did you mean 'mlp'?\n"


def test_check_architecture_raises_all_that_failed(distribute):
    distribute(PLUGIN, name="net-dist")
    shapes = [(1, 6, 5), (3, 4, 4)]
    found = check_architecture("spare", image_shapes=shapes)
    assert {one.variant for one in found} == {"spare", "spare[fault=spare]"}
    assert {one.status for one in found if one.check == "gradients"} == {"ok", "excepted"}
    told = {"summary": "s", "reference": "r"}

    def build(image_shape):
        return aezoo.create("net[fault=skip]", image_shape=image_shape)

    with pytest.raises(ContractError) as caught:
        check_architecture(aezoo.Architecture(name="skips", build=build, **told), image_shapes=shapes)
    lines = str(caught.value).splitlines()
    assert [line.split(": expected")[0] for line in lines] == ["halves: skips on 1x6x5", "halves: skips on 3x4x4"]


def test_the_class_for_authors_makes_a_test_of_each_variant_and_shape(pytester, distribute):
    distribute(PLUGIN, name="net-dist")
    pytester.makepyfile(
        """
        import aezoo.testing

        class TestSpare(aezoo.testing.ArchitectureTests):
            architecture = "spare"
            image_shapes = [(1, 6, 5), (3, 4, 4)]

        class TestBad(aezoo.testing.ArchitectureTests):
            architecture = aezoo.Architecture(
                name="bad", build=lambda shape: aezoo.create("net[fault=skip]", image_shape=shape),
                summary="s", reference="r",
            )
            image_shapes = [(1, 6, 5)]
        """
    )
    result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*::TestSpare::test_contract*spare*1x6x5* PASSED*"])
    result.stdout.fnmatch_lines(["*halves: bad on 1x6x5: expected forward(x) = decode(encode(x))*"])


def test_the_table_shows_a_declared_exception_with_its_reason(distribute, tiny, tmp_path):
    distribute(PLUGIN, name="net-dist")
    recipe = Recipe(name="t", dataset="tiny", steps=5, batch_size=16)
    run = aezoo.bench(["spare[fault=spare]", "net[]"], recipe=recipe, out=tmp_path / "run", timing=False, device="cpu")
    table = run.table().set_index("variant")
    assert table.loc["spare[fault=spare]", "exceptions"] == "gradients"
    assert table["exceptions"].notna().sum() == 1
    text = (tmp_path / "run" / "table.md").read_text()
    assert "| ok, except gradients |" in " ".join(text.split())
    reason = "'gradients' is not met, by its author's declaration: its spare layer is for later"
    assert f"- exception: spare[fault=spare]: {reason}\n" in text


def test_a_bench_calls_what_a_check_fails_invalid_and_notes_what_touches_no_comparison(distribute, tiny, tmp_path):
    distribute(PLUGIN, name="net-dist")
    recipe = Recipe(name="t", dataset="tiny", steps=5, batch_size=16)
    models = ["net[fault=skip]", "net[fault=spare]"]
    run = aezoo.bench(models, recipe=recipe, out=tmp_path / "run", timing=False, device="cpu")
    skip, spare = (one for one in run.records() if one.architecture == "net")
    assert skip.status == "invalid"
    assert skip.reason.startswith("expected forward(x) = decode(encode(x))")
    assert spare.status == "ok"
    (note,) = (note for note in spare.notes if "gradient" in note)
    assert "spare.weight" in note


LEFT = [0]
"""Calls of a forward until it fails."""


class Late(nn.Module):
    """Its halves are children, that are tried; after some calls it fails, and any check may be the first to meet it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(30, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 30), nn.Unflatten(1, (1, 6, 5)))

    def forward(self, x):
        LEFT[0] -= 1
        if LEFT[0] < 0:
            raise RuntimeError("late failure")
        return self.decoder(self.encoder(x))


class LateEncode(Late):
    """Its halves are declared, and the encoder fails with no word."""

    def encode(self, x):
        LEFT[0] -= 1
        if LEFT[0] < 0:
            raise NotImplementedError
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


@pytest.mark.parametrize(
    ("network", "said"), [(Late, "RuntimeError: late failure"), (LateEncode, "NotImplementedError")]
)
def test_what_a_network_raises_late_is_the_reason_and_its_place_is_told_wherever_it_comes(network, said):
    architecture = architecture_of(network, "net", (), "net")
    variant = Variant(architecture=architecture, hyperparameters={}, label="net")
    first_to_meet_it = set()
    for calls in range(40):
        LEFT[0] = calls
        failed = [
            each for each in examine(Case(variant, sample_images((1, 6, 5))), quick=True) if each.status == "failed"
        ]
        first_to_meet_it.add(failed[0].check)
        for each in failed:
            assert said in each.detail
            assert f"{network.__name__}." in each.detail
            assert "test_check.py:" in each.detail
    assert len(first_to_meet_it) > 4
