"""Plugins that are not installed: files, modules, and functions at hand."""

import functools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo.registry.outside import _from_memory, extend, load_registry
from aezoo.registry.places import FromFile

NET = """
    from torch import nn

    class Net(nn.Module):
        \"\"\"One linear layer each way.\"\"\"

        def __init__(self, latent_dim: int = 2, activation=nn.Identity, **others):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, latent_dim), activation())
            self.decoder = nn.Sequential(nn.Linear(latent_dim, 36), nn.Unflatten(1, (1, 6, 6)))

        def forward(self, x):
            return self.decoder(self.encoder(x))
"""
HOOK = """
    import aezoo
    from torch import nn

    def build(image_shape, *, latent_dim: int = 2):
        raise NotImplementedError

    @aezoo.hookimpl
    def aezoo_architectures():
        for name in NAMES:
            yield aezoo.Architecture(name=name, build=build, summary="s", reference="r", variants=[{"latent_dim": 4}])
"""
WIDE = (
    NET
    + """
    def build(image_shape, *, width: int):
        return Net(width)
"""
)


def hook(*names):
    return HOOK.replace("NAMES", repr(names))


RECIPE = Recipe(name="t", dataset="tiny", steps=5)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a module into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(name, source):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    return make


def bench(variants, **options):
    return aezoo.bench(variants, recipe=RECIPE, out="run", device="cpu", timing=False, **options)


def texts(*asked, plugins=()):
    registry, found = extend(discover(), asked, plugins)
    return [variant.text for variant in registry.select(found)]


@pytest.mark.parametrize(
    ("source", "asked", "expected"),
    [
        (NET, ["./my_net.py"], ["my_net"]),
        (NET, ["my_net.py[latent_dim=3]"], ["my_net[latent_dim=3]"]),
        (NET, ["./my_net.py:Net[latent_dim=3]", "./my_net.py:Net"], ["Net[latent_dim=3]", "Net"]),
        (NET, ["my_net:Net", "mlp[]"], ["mlp", "Net"]),
        (WIDE, ["my_net.py[width=3]"], ["my_net[width=3]"]),
        (hook("own"), ["my_net.py"], ["own[latent_dim=4]"]),
        (hook("own"), ["my_net.py[]"], ["own"]),
        (hook("own", "mlp"), ["my_net.py"], ["own[latent_dim=4]", "my_net:mlp[latent_dim=4]"]),
    ],
)
def test_a_file_or_module_stands_for_what_is_in_it(write, source, asked, expected):
    write("my_net.py", source)
    sys.modules.pop("my_net", None)
    assert texts(*asked) == expected


@pytest.mark.parametrize(
    ("source", "asked", "told"),
    [
        (NET, "./other.py", r"no file .*other\.py; give the path of a Python file"),
        ("", "torch.nn:Zzzqq", r"^torch\.nn has no function or class 'Zzzqq'$"),
        ("", "torch.nn:Linea", r"has no function or class 'Linea'\. Did you mean 'Linear'"),
        (NET, "./my_net.py:Nut", r"my_net\.py has no function or class 'Nut'"),
        (NET, "./my_net.py[depth=2]", r"my_net: no hyperparameter 'depth'; it accepts latent_dim\."),
        (NET, "./my_net.py[latent_dim=x]", "accepts int, but got 'x'"),
        ("x = 1", "./my_net.py", r"has no hook and no function `build`, and defines no nn\.Module"),
        (NET + "\n    class Two(Net): pass", "./my_net.py", r"but defines Net, Two: say which, .*my_net\.py:Two"),
        ("def build(:", "./my_net.py", r"cannot load .*my_net\.py: SyntaxError: .*my_net\.py, line 1"),
        ("import no_such_thing", "./my_net.py", "cannot load .*: ModuleNotFoundError: No module named 'no_such"),
        ("raise SystemExit(3)", "./my_net.py", "cannot load .*: SystemExit: 3"),
        (WIDE, "./my_net.py", r"my_net\.py: my_net needs width: give .*my_net\.py\[width=\.\.\.\], or a default"),
        ("\n    AEZOO_API = 99" + hook("own"), "./my_net.py", "is written for plugin API 99, and this aezoo has 1"),
        (hook("a", "b"), "./my_net.py[latent_dim=1]", "contributes a, b: give it with --plugin"),
        (NET, "./my_net", r"not a variant: './my_net'; a network in a file is ./FILE\.py or ./FILE\.py:NAME"),
        (NET, "my_net.py::Net", "not a variant: 'my_net.py::Net'; a network in a file is"),
        (
            NET,
            "my_net[latent_dim=3]",
            r"no architecture 'my_net', but there is a file my_net\.py: give './my_net\.py\[lat",
        ),
        (NET, "./my_net.py:Nat", r"has no function or class 'Nat'; it has Net\. Did you mean 'Net'"),
        (
            "import aezoo\n@aezoo.hookimpl\ndef aezoo_architecture(): yield 1",
            "./my_net.py",
            r"cannot load .*: there is no hook aezoo_architecture; .*Did you mean 'aezoo_architectures'",
        ),
        (
            "from . import other",
            "./my_net.py",
            "ImportError: .*; what is in a package is named by its module, package.m",
        ),
        (NET, "no_such_module:Net", "cannot load module no_such_module: ModuleNotFoundError"),
    ],
)
def test_a_mistake_is_one_line(write, source, asked, told):
    write("my_net.py", source)
    with pytest.raises(AezooError, match=told) as error:
        texts(asked)
    assert "\n" not in str(error.value)


def test_a_plugin_that_is_not_installed_takes_part_in_what_is_installed(write):
    write("my_net.py", hook("own"))
    registry = load_registry(["my_net.py"], ["conv"])
    assert "own" in registry.architectures
    assert "conv" not in registry.architectures
    assert registry.resolve("own").hyperparameters == {"latent_dim": 2}


def test_a_file_is_benched_beside_what_is_installed_and_runs_again_where_it_or_its_neighbour_changed(write, tiny):
    write("my_net.py", "from layer import LAYER\n" + textwrap.dedent(NET))
    path = write("layer.py", "LAYER = 1")
    run = bench(["./my_net.py[latent_dim=4]", "linear[latent_dim=4]"])
    found = run.table().set_index("variant")
    assert set(found.index) == {"my_net[latent_dim=4]", "linear[latent_dim=4]", "pca[latent_dim=4]", "mean"}
    assert found["status"].eq("ok").all()
    # The same two layers from the same seed.
    assert found.loc["my_net[latent_dim=4]", "test_mse"] == found.loc["linear[latent_dim=4]", "test_mse"]
    (record,) = [one for one in run.records() if one.architecture == "my_net"]
    assert (record.plugin.distribution, record.plugin.version) == ("my_net", "(not installed)")

    def trials():
        return {one.trial_id for one in bench(["./my_net.py[latent_dim=4]"]).records() if one.architecture == "my_net"}

    assert trials() == {record.trial_id}
    path.write_text("LAYER = 2")
    sys.modules.pop("layer")
    assert len(trials()) == 2


def test_a_file_that_changes_while_the_bench_runs_costs_its_trial(write, tiny):
    path = write("my_net.py", NET)

    class Edits(aezoo.Observer):
        def planned(self, plans, seconds):
            path.write_text(path.read_text() + "\n# another\n")

    run = bench(["./my_net.py"], observer=Edits())
    (record,) = [one for one in run.records() if one.architecture == "my_net"]
    assert (record.status, record.reason) == (
        "error",
        "the source of plugin my_net of my_net (not installed) is not what it was when the bench was called; the same "
        "command trains it as it is now, and all machines are to have the same",
    )
    assert set(bench(["./my_net.py"]).table()["status"]) == {"ok"}


def test_an_environment_in_the_files_folder_is_no_part_of_its_source(write):
    write("my_net.py", "import other_lib\n" + textwrap.dedent(NET))
    path = write("site-packages/other_lib.py", "x = 1")
    sys.path.insert(0, str(path.parent))
    before = FromFile(path="my_net.py").load().source
    path.write_text("x = 2")
    sys.modules.pop("other_lib")
    assert FromFile(path="my_net.py").load().source == before


SCRIPT = """
import aezoo
from torch import nn

print("once")
WIDTH = 4

def small(image_shape, *, latent_dim: int = 2):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, WIDTH), nn.Linear(WIDTH, latent_dim))
    return aezoo.Autoencoder(encoder, nn.Sequential(nn.Linear(latent_dim, 36), nn.Unflatten(1, image_shape)))

recipe = aezoo.Recipe(name="t", dataset="tiny", steps=5)
for WIDTH in (4, 4, 5):
    run = aezoo.bench([small, "linear[latent_dim=2]"], recipe=recipe, out="run", device="cpu", timing=False)
    print(sorted((one.variant, one.status, one.num_params) for one in run.records() if one.architecture == "small"))
"""


def test_a_plain_scripts_function_is_benched_and_what_it_takes_from_around_it_makes_another_trial(write, tiny):
    write("script.py", SCRIPT)
    told = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    one, other = "('small', 'ok', 266)", "('small', 'ok', 305)"
    assert told.stdout.splitlines() == ["once", f"[{one}]", f"[{one}]", f"[{one}, {other}]"]


def make(width):
    def net(image_shape, *, depth: int = 1):
        return nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])

    return net


def mark(given):
    return _from_memory(given).object.sha256


SIZE = 4


def around():
    return SIZE


class Uses:
    scale = 1

    def __init__(self, image_shape, width=2):
        self.width = width * SIZE * self.scale

    def method(self, image_shape):
        return self.width

    def __call__(self, image_shape):
        return self.width


def calls_another(image_shape):
    return around()


def makes_a_class(image_shape):
    return Uses(image_shape)


def holding(array):
    def net(image_shape):
        return array

    return net


def test_what_is_at_hand_is_known_by_its_code_and_by_what_it_holds():
    marks = [mark(one) for one in (make(6), make(6), make(7), functools.partial(make(6), depth=2))]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3
    loaded = _from_memory(make(6)).load()
    assert [one.name for one in loaded.architectures] == ["net"]
    assert loaded.architectures[0].build((1, 6, 6), depth=2)[1].out_features == 6


@pytest.mark.parametrize(
    ("make_one", "make_other"),
    [
        (lambda: Uses((1, 2, 3), 2).method, lambda: Uses((1, 2, 3), 3).method),
        (lambda: functools.partial(Uses, width=2), lambda: functools.partial(Uses, width=3)),
        (lambda: holding(torch.arange(5000)), lambda: holding(torch.arange(5000).roll(1))),
        (lambda: holding(np.arange(5000)), lambda: holding(np.arange(5000) + 1)),
        (lambda: holding({"a": [1, 2]}), lambda: holding({"a": [1, 3]})),
        (lambda: holding({3, 1, 2}), lambda: holding({3, 1})),
        (lambda: holding(np.random.default_rng(1)), lambda: holding(np.random.default_rng(2))),
    ],
)
def test_whatever_an_object_holds_tells_it_apart_and_nothing_else_does(make_one, make_other):
    assert mark(make_one()) == mark(make_one())
    assert mark(make_one()) != mark(make_other())


@pytest.mark.parametrize("given", [Uses, calls_another, makes_a_class], ids=lambda given: given.__name__)
def test_a_value_that_it_takes_from_around_it_by_way_of_others_tells_it_apart(given, monkeypatch):
    before = mark(given)
    assert mark(given) == before
    monkeypatch.setitem(globals(), "SIZE", 5)
    changed = mark(given)
    assert changed != before
    monkeypatch.setattr(Uses, "scale", 2)
    assert (mark(given) != changed) == (given is not calls_another)


def test_what_cannot_be_told_apart_never_passes_for_what_it_was():
    values = {"a": 1}.values()
    assert mark(holding(values)) != mark(holding(values))


def test_the_callers_own_class_stays_what_it_is():
    plugin = _from_memory(Uses).load()
    assert plugin.architectures[0].build((1, 2, 3)).__class__ is Uses
    assert Uses.__init__.__globals__ is globals()


PIPED = """
import aezoo
from torch import nn

class Net(nn.Module):
    def __init__(self, image_shape):
        super().__init__()
        back = nn.Unflatten(1, image_shape)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, WIDTH), nn.Linear(WIDTH, 36), back)

    def forward(self, x):
        return self.layers(x)

recipe = aezoo.Recipe(name="t", dataset="tiny", steps=5)
run = aezoo.bench([Net], recipe=recipe, out="run", device="cpu", timing=False)
print(sorted(one.num_params for one in run.records() if one.architecture == "Net"))
"""


def test_a_script_that_is_piped_in_is_known_by_its_code(write, tiny):
    def pipe(width):
        source = PIPED.replace("WIDTH", str(width))
        return subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True, check=True).stdout

    assert pipe(3) == "[255]\n"
    assert pipe(4) == "[255, 328]\n"


def test_two_files_have_each_their_own_neighbour_also_of_one_name(write, tiny):
    for folder, bias in (("a", "True"), ("b", "False")):
        write(f"{folder}/helper.py", f"BIAS = {bias}")
        source = "from helper import BIAS\n" + textwrap.dedent(NET).replace(
            "36, latent_dim)", "36, latent_dim, bias=BIAS)"
        )
        write(f"{folder}/net_{folder}.py", source)
    run = bench(["./a/net_a.py", "./b/net_b.py"])
    table = run.table().set_index("variant")
    assert table.loc[["net_a", "net_b"], "status"].tolist() == ["ok", "ok"]
    assert table.loc[["net_a", "net_b"], "num_params"].tolist() == [182, 180]


def test_what_is_imported_late_is_part_of_the_source_too(write, tiny):
    late = """
        def build(image_shape):
            from helper import Net
            return Net()
    """
    write("late.py", late)
    write("early.py", "import helper\n" + textwrap.dedent(late))
    path = write("helper.py", NET)
    assert set(bench(["./early.py", "./late.py"]).table()["status"]) == {"ok"}
    before = FromFile(path="late.py").load().source
    path.write_text(path.read_text() + "\n# another\n")
    assert FromFile(path="late.py").load().source != before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([nn.Linear(2, 2)], "got a network that is built already, of class Linear; give Linear itself"),
        ([lambda image_shape: None], "<lambda> is no name for an architecture; give a function with a name"),
        ([dict], "cannot read which arguments <class 'dict'> takes: ValueError"),
        (Uses, r"give a list of variants, such as \[Uses\], but got Uses itself"),
        ([3], "give variants as texts, or functions or classes that build one, but got 3"),
        ("mlp", r"give a list of variants, such as \['mlp'\], but got 'mlp' itself"),
    ],
)
def test_what_is_no_architecture_is_refused_in_one_line(given, told):
    with pytest.raises(AezooError, match=told):
        extend(discover(), given)
