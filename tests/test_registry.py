"""Discovery: a broken plugin is reported, and the rest stands."""

import sys
import textwrap

import pytest

from aezoo.contract import hooks
from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo.registry.plugin import module_files
from aezoo.registry.source import source_sha256

GOOD = """
    import aezoo
    from torch import nn
    def build(image_shape, *, latent_dim: int = 3):
        return nn.Identity()
    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name={name!r}, build=build, summary="s", reference="r", variants=[{{"latent_dim": 2}}])
"""


def good(name: str) -> str:
    return GOOD.format(name=name)


HEAD = "import aezoo\ndef build(image_shape): ...\n"
BROKEN = {
    "ImportError": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "SyntaxError": ("def broken(:", "SyntaxError: invalid syntax"),
    "SystemExit": ("raise SystemExit(3)", "SystemExit: 3"),
    "no hook": ("x = 1", "implements no hook"),
    "misspelt": (HEAD + "@aezoo.hookimpl\ndef aezoo_architecture(): yield", "there is no hook aezoo_architecture"),
    "unmarked": (HEAD + "def aezoo_architectures(): yield", "aezoo_architectures is not marked"),
    "signature": (HEAD + "@aezoo.hookimpl\ndef aezoo_architectures(shape): yield", "{'shape'}"),
    "raises": (HEAD + "@aezoo.hookimpl\ndef aezoo_architectures(): raise OSError('gone')", "OSError: gone"),
    "raises midway": (
        HEAD + "@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r')\n raise KeyError('k')",
        "KeyError",
    ),
    "good hook beside a bad one": (
        HEAD + "@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r')\n"
        "@aezoo.hookimpl\ndef aezoo_datasets(): return 7",
        "aezoo_datasets must yield aezoo.Dataset",
    ),
    "wrong kind": (HEAD + "@aezoo.hookimpl\ndef aezoo_architectures(): yield 'mlp'", "yielded 'mlp'"),
    "twice": (
        HEAD + "@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " for _ in 'ab': yield aezoo.Architecture(name='half', build=build, summary='s', reference='r')",
        "yields 'half' twice",
    ),
    "bad variant": (
        HEAD + "@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r', variants=[{'k': 1}])",
        "half: no hyperparameter 'k'",
    ),
    "odd default": (
        "import aezoo\ndef build(image_shape, *, activation=print): ...\n@aezoo.hookimpl\n"
        "def aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r')",
        "half: the default of hyperparameter 'activation' must be",
    ),
    "takes the reference for speeds": (
        "import aezoo\ndef build(image_shape): pass\n@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r', speed_reference=True)",
        "the reference for speeds belongs to aezoo",
    ),
    "takes a baseline": (
        HEAD + "@aezoo.hookimpl\ndef aezoo_architectures():\n"
        " yield aezoo.Architecture(name='half', build=build, summary='s', reference='r', baseline='pca')",
        "the baseline 'pca' belongs to aezoo",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_plugin_is_reported_and_the_rest_load(kind, distribute):
    source, told = BROKEN[kind]
    distribute(source, name="broken-dist", version="0.7")
    distribute(good("fine"), name="zz-fine")
    registry = discover()
    (broken,) = registry.broken
    assert (broken.name, broken.distribution, broken.version) == ("broken_dist", "broken-dist", "0.7")
    assert told in broken.reason
    assert "\n" not in str(broken)
    assert "half" not in registry.architectures
    assert {"fine", "mlp", "conv", "pca"} <= set(registry.architectures)


@pytest.mark.parametrize("names", [("aa-dist", "bb-dist"), ("bb-dist", "aa-dist")])
def test_two_claims_on_one_name_are_both_named_and_each_can_be_selected(names, distribute):
    for name in names:
        distribute(good("same"), name=name)
    registry = discover()
    assert registry.broken == ()
    with pytest.raises(
        AezooError, match="2 plugins claim the architecture 'same': say which, aa-dist:same or bb-dist:same"
    ):
        registry.resolve("same")
    assert registry.resolve("bb-dist:same[latent_dim=2]").text == "bb-dist:same[latent_dim=2]"
    assert registry.plugin(registry.resolve("aa-dist:same")).distribution == "aa-dist"
    assert [one.text for one in registry.select(["*same"])] == [
        "aa-dist:same[latent_dim=2]",
        "bb-dist:same[latent_dim=2]",
    ]


def test_a_second_plugin_of_one_distribution_cannot_take_a_name(distribute):
    distribute(good("same"), name="one-dist", module="first_module")
    path = distribute(good("same"), name="one-dist", module="second_module")
    info = path.parent / "one_dist-1.2.dist-info" / "entry_points.txt"
    info.write_text("[aezoo]\nfirst_module = first_module\nsecond_module = second_module\n")
    discover.cache_clear()
    (broken,) = discover().broken
    assert broken.name == "second_module"
    assert "plugin first_module of the same distribution has 'same' already" in broken.reason


def texts(*selection, **sweep):
    return [one.text for one in discover().select(selection, **sweep)]


def test_a_name_selects_the_declared_variants_and_brackets_select_one():
    assert texts("mlp") == ["mlp[latent_dim=2]", "mlp", "mlp[latent_dim=8]", "mlp[latent_dim=16]", "mlp[latent_dim=32]"]
    assert texts("mlp[]", "mlp[latent_dim=3]") == ["mlp"]
    assert texts("pca", "pca[latent_dim=30]")[-1] == "pca[latent_dim=30]"
    assert texts("mea?", "deno*", "conv[width=4]", latent_dims=[5])[:2] == ["mean", "conv[latent_dim=5,width=4]"]


def test_an_architecture_without_declared_variants_is_benched_only_where_it_is_named():
    assert texts("unet") == ["unet"]
    assert texts("unet[width=4]") == ["unet[width=4]"]
    assert texts("un*") == []
    assert "unet" not in texts("*")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mpl", "no architecture 'mpl'; `aezoo list` shows them all. Did you mean 'mlp'"),
        ("nobody:mlp", "no architecture 'nobody:mlp'"),
        ("zzz*", "no architecture matches 'zzz*'"),
        ("mlp[latent=3]", "mlp: no hyperparameter 'latent'"),
    ],
)
def test_an_unknown_variant_gets_close_matches(text, told):
    with pytest.raises(AezooError) as caught:
        discover().select([text])
    assert told in str(caught.value)


def test_variants_may_be_a_generator(distribute):
    source = good("gen").replace('[{"latent_dim": 2}]', '({"latent_dim": k} for k in (2, 5))')
    distribute(source, name="gen-dist")
    assert texts("gen") == ["gen[latent_dim=2]", "gen[latent_dim=5]"] == texts("gen")


def test_the_source_hash_covers_what_a_package_imports_from_itself(tmp_path, monkeypatch):
    package = tmp_path / "hashed_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("from .net import x\n")
    (package / "net.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import hashed_plugin

    before = source_sha256(module_files(hashed_plugin))
    (package / "net.py").write_text("x = 2\n")
    assert source_sha256(module_files(hashed_plugin)) != before


def test_the_source_hash_covers_what_a_plugin_imports_beside_itself(tmp_path, monkeypatch):
    package = tmp_path / "hashed_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text("from . import helper\n")
    (package / "helper.py").write_text("import math\nx = 1\n")
    (package / "unrelated.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from hashed_package import plugin, unrelated  # noqa: F401 - loaded, but not imported by the plugin

    before = source_sha256(module_files(plugin))
    (package / "unrelated.py").write_text("y = 2\n")
    assert source_sha256(module_files(plugin)) == before
    (package / "helper.py").write_text("import math\nx = 2\n")
    assert source_sha256(module_files(plugin)) != before


@pytest.mark.parametrize("name", ["fake_dist", "fake-dist"])
def test_a_plugin_is_blocked_by_its_name_or_its_distributions_and_is_not_even_imported(name, distribute, monkeypatch):
    distribute("raise SystemExit('imported')")
    assert len(discover().broken) == 1
    for registry in (discover(name), discover("conv", name)):
        assert registry.broken == ()
        assert registry.warnings == []
        blocked = {one.name: one.reason for one in registry.blocked}
        assert blocked["fake_dist"] == "blocked by --no-plugin"
        assert "mlp" in registry.architectures
    monkeypatch.setenv("AEZOO_NO_PLUGINS", f"{name}, tensorboard")
    discover.cache_clear()
    assert {one.name: one.reason for one in discover().blocked}["fake_dist"] == "blocked by AEZOO_NO_PLUGINS"


def test_a_name_that_blocks_nothing_is_an_error_where_it_was_typed_and_a_warning_elsewhere(monkeypatch):
    with pytest.raises(AezooError, match=r"no plugin or distribution 'convv' to leave out; `aezoo plugins` .* 'conv'"):
        discover("convv")
    monkeypatch.setenv("AEZOO_NO_PLUGINS", "convv")
    discover.cache_clear()
    assert discover().warnings == ["AEZOO_NO_PLUGINS names 'convv', which is not installed"]
    discover.cache_clear()


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("AEZOO_API = 1", None),
        ("AEZOO_API = 2", "it is written for plugin API 2, and this aezoo has 1: update aezoo"),
        ("AEZOO_API = 0", "it is written for plugin API 0, and this aezoo reads 1 to 1: update the plugin"),
        ("AEZOO_API = '1'", "AEZOO_API must be a whole number, such as 1, but is '1'"),
    ],
)
def test_the_plugin_api_is_checked_in_both_directions(declared, told, distribute):
    distribute(f"{declared}\n" + textwrap.dedent(good("fine")))
    registry = discover()
    assert [one.reason for one in registry.broken] == ([told] if told else [])
    assert ("fine" in registry.architectures) == (told is None)


def test_a_deprecated_hook_is_told_of_with_its_plugin(distribute, monkeypatch):
    monkeypatch.setattr(
        hooks.aezoo_architectures, "aezoo_spec",
        {**hooks.aezoo_architectures.aezoo_spec, "warn_on_impl": DeprecationWarning("use aezoo_nets")},
    )  # fmt: skip
    distribute(good("fine"))
    registry = discover("aezoo")
    assert registry.warnings == ["plugin fake_dist of fake-dist 1.2: use aezoo_nets"]
    assert "fine" in registry.architectures


def test_a_source_that_broke_after_it_was_imported_still_has_a_hash(distribute):
    path = distribute(good("fine"))
    plugin = next(one for one in discover().plugins if one.name == "fake_dist")
    path.write_text("def (:")
    assert source_sha256(module_files(sys.modules["fake_dist"])) != plugin.source.source_sha256
