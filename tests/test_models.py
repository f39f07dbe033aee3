"""Trained networks: loaded, used, exported; and refused where they are not what was trained."""

import csv
import json
import math
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo import ARCHITECTURES

import aezoo
from aezoo.check.suite import sample_images
from aezoo.contract.recipe import read_recipe
from aezoo.errors import AezooError
from aezoo.harness import graphs, preflight
from aezoo.harness.export import export_folder
from aezoo.harness.model import Model, image_paths
from aezoo.harness.scoring import auc, percentiles
from aezoo.registry.discovery import discover
from aezoo.run.files import read as read_json
from aezoo.run.files import write_json
from aezoo.run.model import CONFIG, WEIGHTS, ModelConfig
from aezoo.run.store import RunDirectory

VARIANT = "mlp[latent_dim=2]"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of images of two labels."""
    rng = np.random.RandomState(0)
    folder = tmp_path_factory.mktemp("photos")
    for place in range(60):
        label = ("good", "bad")[place % 5 == 0]
        pixels = (rng.rand(8, 8) * 40 + (200 if label == "bad" else 60)).astype(np.uint8)
        path = folder / label / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> aezoo.Run:
    return aezoo.bench(
        [VARIANT], recipe=aezoo.Recipe(name="t", steps=30, batch_size=16, seeds=2), dataset=photos, timing=False,
        device="cpu", out=tmp_path_factory.mktemp("runs") / "run", observer=aezoo.Observer(), report=False,
    )  # fmt: skip


def test_a_loaded_network_scores_every_test_image_as_its_trial_did(run, photos):
    directory = RunDirectory(run.path)
    for record in run.records():
        model = aezoo.load(run.path, record.variant, record.seed)
        assert not model.training
        images = discover().dataset(str(photos)).checked(Path()).test[0:]
        assert np.array_equal(model.errors(images), directory.read_test_errors(record))


def test_a_network_takes_tensors_arrays_pictures_paths_and_lists_of_them(run, photos):
    model = aezoo.load(run.path, VARIANT, 0)
    paths = image_paths([photos])[:5]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    expected = model.reconstruct(pixels)
    assert (expected.shape, expected.dtype) == ((5, 1, 8, 8), np.float32)
    floats = pixels.astype(np.float32) / 255
    for given in (paths, [str(path) for path in paths], [Image.open(path) for path in paths], pixels[:, None], floats,
                  list(floats), pixels[..., None], iter(paths)):  # fmt: skip
        assert np.array_equal(model.reconstruct(given), expected)
    tensor = model.reconstruct(torch.from_numpy(floats[:, None]))
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), expected)
    # Another size of a batch rounds otherwise.
    assert np.allclose(model.reconstruct(paths[0]), expected[:1], atol=1e-6)
    assert np.allclose(model.reconstruct(pixels, batch_size=2), expected, atol=1e-6)
    signed = model.reconstruct(floats * 2 - 1, values="signed")
    assert np.allclose(signed, expected, atol=1e-5)
    assert torch.equal(model(torch.from_numpy(floats[:, None])).detach(), torch.from_numpy(expected))


def test_latents_come_and_go(run, photos):
    model = aezoo.load(run.path, VARIANT)
    latents = model.encode(image_paths([photos])[:7])
    assert latents.shape == (7, 2)
    assert np.array_equal(model.decode(latents), model.reconstruct(image_paths([photos])[:7]))
    with pytest.raises(AezooError, match=r"latents of .* are \(N, 2\), but got \(7, 3\)"):
        model.decode(np.zeros((7, 3), np.float32))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((2, 3, 9, 9), np.uint8), "the network takes images of shape 1x8x8"), ("no/such.png", "no such file"),
        (np.full((1, 8, 8), 30.0), "it is unclear what floats"), ([3], "an image is a tensor, an array"),
        ([], "no images were given"), (np.full((1, 8, 8), np.nan), "NaN or infinite"),
    ],
)  # fmt: skip
def test_what_is_no_image_for_a_network_is_one_line(given, told, run):
    with pytest.raises(AezooError, match=told):
        aezoo.load(run.path, VARIANT).reconstruct(given)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((None, None), "is a run: say which variant"),
        (("mlp", None), r"no variant 'mlp' in .*Did you mean 'mlp\[latent_dim=2\]'"),
        (("mlp[latent_dim=3]", None), "no variant 'mlp"),
        ((VARIANT, 7), "has no trained .* seed 7; there are seeds 0, 1"),
    ],
)  # fmt: skip
def test_a_network_that_is_not_there_is_one_line(arguments, told, run):
    with pytest.raises(AezooError, match=told):
        aezoo.load(run.path, *arguments)


def exported(run: aezoo.Run, out: Path, variant: str = VARIANT) -> Path:
    model = aezoo.load(run.path, variant, device="cpu")
    return export_folder(model, out, run.path)


def test_an_exported_folder_stands_alone_and_is_the_same_network(run, photos, tmp_path):
    folder = exported(run, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", CONFIG, WEIGHTS, "reconstructions.png",
    ]  # fmt: skip
    paths = image_paths([photos])
    alone = aezoo.load(folder)
    assert np.array_equal(alone.reconstruct(paths), aezoo.load(run.path, VARIANT).reconstruct(paths))
    config = json.loads((folder / CONFIG).read_text())
    assert config["variant"] == VARIANT
    assert config["preprocessing"]["image_shape"] == [1, 8, 8]
    assert config["plugin"]["source_sha256"]
    text = (folder / "README.md").read_text()
    assert f"Trained again by `aezoo bench '{VARIANT}' --recipe recipe.toml --device cpu --out again`" in text
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text.partition("```toml\n")[2].partition("```")[0])
    assert read_recipe(recipe) == RunDirectory(run.path).info().recipe.change(dataset=f"images[path={photos.name}]")
    assert f"| {VARIANT} " in text
    with pytest.raises(AezooError, match="holds one network"):
        aezoo.load(folder, VARIANT)
    with pytest.raises(AezooError, match="is there already"):
        exported(run, folder)


@pytest.mark.parametrize("damage", ["cut", "flipped", "pickle", "no weights", "config", "shape", "huge header"])
def test_a_damaged_or_hostile_folder_is_one_line(damage, run, tmp_path):
    folder = exported(run, tmp_path / "model")
    weights, config = folder / WEIGHTS, folder / CONFIG
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)
    elif damage == "huge header":
        weights.write_bytes((2**60).to_bytes(8, "little") + content[8:])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "config":
        config.write_text(config.read_text().replace(VARIANT, "mlp[latent_dim=3]"))
    else:
        config.write_text("{" + config.read_text())
    with pytest.raises(AezooError) as caught:
        aezoo.load(folder)
    assert "\n" not in str(caught.value)


def test_a_network_whose_plugin_is_another_one_now_is_refused_unless_told(tmp_path, photos):
    plugin = tmp_path / "mine.py"
    text = """
import aezoo
from torch import nn

def build(image_shape, *, latent_dim: int = 2):
    return aezoo.Autoencoder(nn.Sequential(nn.Flatten(), nn.Linear(64, latent_dim)),
                             nn.Sequential(nn.Linear(latent_dim, 64), nn.Unflatten(1, image_shape)))

@aezoo.hookimpl
def aezoo_architectures():
    yield aezoo.Architecture(name="mine", build=build, summary="s", reference="r")
"""
    plugin.write_text(text)
    run = aezoo.bench(
        [str(plugin)], recipe=aezoo.Recipe(name="t", steps=5, batch_size=16), dataset=photos, timing=False,
        device="cpu", out=tmp_path / "run", observer=aezoo.Observer(), report=False,
    )  # fmt: skip
    assert aezoo.load(run.path, "mine", plugins=[plugin]).config.variant == "mine"
    plugin.write_text(text + "\n# another line\n")
    with pytest.raises(AezooError, match="but the code of .* is another"):
        aezoo.load(run.path, "mine", plugins=[plugin])
    told = aezoo.load(run.path, "mine", plugins=[plugin], any_source=True)
    assert told.reconstruct(np.zeros((1, 8, 8), np.uint8)).shape == (1, 1, 8, 8)
    with pytest.raises(AezooError, match=r"mine\.py has changed; give it with --plugin"):
        aezoo.load(run.path, "mine")


@pytest.mark.parametrize(("policy", "kept"), [("all", 2), ("best", 1), ("none", 0)])
def test_weights_are_kept_of_all_of_the_best_seed_or_of_none(policy, kept, photos, tmp_path):
    run = aezoo.bench(
        [VARIANT], recipe=aezoo.Recipe(name="t", steps=10, batch_size=16, seeds=2), dataset=photos, timing=False,
        device="cpu", out=tmp_path / "run", observer=aezoo.Observer(), report=False, weights=policy,
    )  # fmt: skip
    directory = RunDirectory(run.path)
    records = [record for record in run.records() if record.variant == VARIANT]
    there = [record for record in records if directory.keeps_weights(record)]
    assert len(there) == kept
    if policy == "best":
        assert there[0].test_mse == min(record.test_mse for record in records)
        assert aezoo.load(run.path, VARIANT).config.seed == there[0].seed
    if policy == "none":
        with pytest.raises(AezooError, match="keeps no weights of .*--weights none"):
            aezoo.load(run.path, VARIANT)


def test_metrics_are_computed_of_a_finished_run_and_nothing_is_trained(run, photos):
    before = {record.trial_id: record.finished_at for record in run.records()}
    again = aezoo.bench(
        [VARIANT], recipe=aezoo.Recipe(name="t", steps=30, batch_size=16, seeds=2, metrics=["psnr"]), dataset=photos,
        timing=False, device="cpu", out=run.path, observer=aezoo.Observer(), report=False, executor="inline",
    )  # fmt: skip
    assert {record.trial_id: record.finished_at for record in again.records()} == before
    assert again.table().set_index("variant").loc[VARIANT, "psnr"] > 0


def test_percentiles_count_the_images_of_no_greater_error():
    quantiles = np.linspace(0, 1, 11)
    assert percentiles(np.array([-1.0, 0.0, 0.55, 1.0, 9.0]), quantiles).round(6).tolist() == [
        0.0, 9.090909, 54.545455, 100.0, 100.0,
    ]  # fmt: skip


def test_an_auc_is_how_often_the_abnormal_image_has_the_greater_error():
    errors, abnormal = np.array([1.0, 2.0, 3.0, 2.0]), np.array([False, True, True, False])
    assert auc(errors, abnormal) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    with pytest.raises(AezooError, match="all 2 are normal"):
        auc(errors[:2], np.array([False, False]))


def test_the_commands_reconstruct_encode_score_and_export(run, photos, tmp_path, call):
    folder = tmp_path / "model"
    assert call("export", run.path, VARIANT, "-o", folder)[:2] == (0, f"{folder}\n")
    for model in ([str(run.path), VARIANT], [str(folder)]):
        out = tmp_path / f"seen-{len(model)}"
        assert call("reconstruct", *model, photos, "-o", out)[0] == 0
        code, _, err = call("reconstruct", *model, photos, "-o", photos)
        assert (code, "is there already" in err) == (2, True)
        seen = np.asarray(Image.open(out / "good" / "1.png"))
        expected = aezoo.load(folder).reconstruct(photos / "good" / "1.png")[0, 0]
        assert np.abs(seen / 255 - expected).max() <= 0.5 / 255 + 1e-6
        code, _, _ = call("encode", *model, str(photos), "-o", str(tmp_path / "z.npz"))
        latents = np.load(tmp_path / "z.npz")
        assert (latents["latents"].shape, len(latents["paths"])) == ((60, 2), 60)
        code, out, _ = call(
            "score", *model, str(photos), "--normal", "good", "-o", str(tmp_path / "scores.csv"), "--format", "csv"
        )
        rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
        assert len(rows) == 60
        assert {row["label"] for row in rows} == {"good", "bad"}
        assert all(0 <= float(row["test_percentile"]) <= 100 for row in rows)
        assert "12 abnormal against 48 normal images" in out
    for arguments, line in (
        (
            ("score", folder, photos, "--normal", "fine"),
            "no label 'fine', which is a folder, among the images; there are bad, good",
        ),
        (("encode", folder, photos, "-o", tmp_path / "z.txt"), "ends in .npz or .parquet"),
        (("reconstruct", folder, tmp_path / "nowhere", "-o", tmp_path / "seen"), "no file or folder"),
    ):
        code, _, err = call(*arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert line in err


def test_a_folder_is_all_of_its_images(run, photos):
    model = aezoo.load(run.path, VARIANT, device="cpu")
    assert np.array_equal(model.encode(photos), model.encode(image_paths([photos])))


def test_what_is_done_to_files_is_told(run, photos, tmp_path, call):
    Image.new("RGB", (20, 10), (9, 99, 200)).save(tmp_path / "a.png")
    code, out, err = call("score", run.path, VARIANT, tmp_path / "a.png")
    assert (code, "label" in out) == (0, False)
    assert "1 of 1 file of another size, made 1x8x8 (fit=crop)" in err
    assert "1 of 1 file in colour, made grey" in err


def test_a_forged_config_is_one_line(run, tmp_path):
    folder = exported(run, tmp_path / "model")
    config = read_json(folder / CONFIG, ModelConfig)
    write_json(folder / CONFIG, config.model_copy(update={"image_shape": (1, 10**6, 10**6)}))
    with pytest.raises(AezooError, match="cannot be built|do not fit") as caught:
        aezoo.load(folder)
    assert "\n" not in str(caught.value)


def test_images_in_a_list_mean_what_they_do_in_an_array(run):
    model = aezoo.load(run.path, VARIANT, device="cpu")
    floats = np.concatenate([np.full((1, 1, 8, 8), 0.9), np.linspace(0, 255, 64).reshape(1, 1, 8, 8)])
    assert np.array_equal(model.reconstruct([*floats]), model.reconstruct(floats))
    assert model.decode(np.zeros((2, 2))).shape == (2, 1, 8, 8)
    assert model.decode([[0.0, 0.0]]).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("given", [5, None, [], [object()], np.array(["a"])])
def test_what_is_no_image_is_one_line(run, given):
    with pytest.raises(AezooError) as caught:
        aezoo.load(run.path, VARIANT, device="cpu").reconstruct(given)
    assert "\n" not in str(caught.value)


def test_weights_that_an_earlier_call_kept_are_not_dropped(photos, tmp_path):
    asked = {
        "recipe": aezoo.Recipe(name="t", steps=2, batch_size=16), "dataset": photos, "timing": False, "report": False,
        "device": "cpu", "out": tmp_path / "run", "observer": aezoo.Observer(), "executor": "inline",
    }  # fmt: skip
    run = aezoo.bench([VARIANT], **asked)
    for weights in ("none", "best"):
        run = aezoo.bench([VARIANT], **asked, weights=weights)
        assert all(RunDirectory(run.path).keeps_weights(record) for record in run.records())
    more = aezoo.bench([VARIANT, "linear[latent_dim=2]"], **asked, weights="none")
    kept = {record.variant for record in more.records() if RunDirectory(run.path).keeps_weights(record)}
    assert VARIANT in kept
    assert "linear[latent_dim=2]" not in kept


def test_bad_files_are_named_and_left_out_where_that_is_asked_for(run, photos, tmp_path, call):
    folder = tmp_path / "mixed"
    folder.mkdir()
    pixels = np.asarray(Image.open(photos / "good" / "1.png"))
    for name in ("a.png", "a.bmp", "b.png"):
        Image.fromarray(pixels).save(folder / name)
    (folder / "c.png").write_bytes(b"no image")
    commands = {
        "score": ("-o", tmp_path / "scores.csv"),
        "encode": ("-o", tmp_path / "z.npz"),
        "reconstruct": ("-o", tmp_path / "seen"),
    }
    for command, options in commands.items():
        code, _, err = call(command, run.path, VARIANT, folder, *options)
        assert (code, err.count("\n"), options[1].exists()) == (2, 1, False)
        assert "c.png: it is no image" in err
        assert "; --skip-bad leaves out" in err
        code, _, err = call(command, run.path, VARIANT, folder, "--skip-bad", *options)
        assert (code, "c.png: it is no image" in err, "1 of 4 files left out" in err) == (0, True, True)
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["a.bmp.png", "a.png.png", "b.png"]
    assert list(np.load(tmp_path / "z.npz")["paths"]) == ["a.bmp", "a.png", "b.png"]
    code, _, err = call("score", run.path, VARIANT, folder / "c.png", "--skip-bad")
    assert (code, "none of them can be read" in err) == (2, True)
    code, _, err = call("score", run.path, VARIANT, folder, folder / "a.png")
    assert (code, "would both be called a.png" in err) == (2, True)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> aezoo.Run:
    """Every architecture of the zoo, trained for a step; test_zoo.py and test_conformance.py have what they meet."""
    pixels = sample_images((1, 12, 12), count=40).numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "examine", lambda *_, **__: iter(()))
        patch.setattr(preflight, "is_deterministic", lambda *_: True)
        return aezoo.bench(
            [f"{name}[]" for name in ARCHITECTURES], dataset=pixels, timing=False, device="cpu", executor="inline",
            recipe=aezoo.Recipe(name="t", steps=1, batch_size=4), out=tmp_path_factory.mktemp("zoo") / "run",
            observer=aezoo.Observer(), report=False, weights="all",
        )  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_exports_and_loads_bit_equal_from_its_folder(architecture, zoo, tmp_path):
    variant = f"{architecture}[]"
    images = sample_images((1, 12, 12), count=6).numpy()
    model = aezoo.load(zoo.path, variant, device="cpu")
    # From no run, so that the card has no table of all of them: what a card has of its run is held above.
    folder = export_folder(model, tmp_path / "model", tmp_path)
    assert np.array_equal(aezoo.load(folder).reconstruct(images), model.reconstruct(images))


def test_a_network_goes_to_onnx_and_back_whole_and_in_halves(run, tmp_path, call):
    import onnxruntime

    code, out, _ = call("export", str(run.path), VARIANT, "-o", str(tmp_path / "model"), "--format", "onnx")
    assert code == 0
    assert [line.split(".onnx: at most")[0].rpartition("/")[2] for line in out.splitlines()[1:]] == [
        "autoencoder", "encoder", "decoder",
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "model" / "autoencoder.onnx")
    pixels = np.random.RandomState(1).randint(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    expected = aezoo.load(tmp_path / "model").reconstruct(pixels)
    assert np.abs(session.run(None, {"input": pixels})[0] - expected).max() <= 1e-4
    assert "- `autoencoder.onnx`: " in (tmp_path / "model" / "README.md").read_text()


def test_a_network_goes_to_pt2(run, tmp_path):
    exported = graphs.export(aezoo.load(run.path, VARIANT, device="cpu"), "pt2")
    assert all(difference <= 1e-4 for difference in exported.differences.values())
    (tmp_path / "encoder.pt2").write_bytes(exported.contents["encoder.pt2"])
    program = torch.export.load(tmp_path / "encoder.pt2")
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    expected = aezoo.load(run.path, VARIANT).encode(pixels)
    assert torch.allclose(program.module()(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [1e-3, math.nan])
def test_a_graph_that_is_another_network_is_refused(run, monkeypatch, wrong):
    real = graphs._pt2

    def pt2(graph, example, path):
        run = real(graph, example, path)

        def off(array):
            output = run(array)
            output[0].flat[0] += wrong
            return output

        return off

    monkeypatch.setattr(graphs, "_pt2", pt2)
    exported = graphs.export(aezoo.load(run.path, VARIANT, device="cpu"), "pt2")
    assert exported.contents == {}
    assert "autoencoder: the exported graph differs by" in exported.reason


def test_what_cannot_be_exported_is_one_line_and_stands_on_the_card(run, tmp_path):
    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    model = Model(Branches(), aezoo.load(run.path, VARIANT, device="cpu").config)
    exported = graphs.export(model, "pt2")
    assert exported.reason.startswith("autoencoder: ")
    assert "\n" not in exported.reason
    folder = export_folder(model, tmp_path / "model", run.path, exported)
    assert "Not exported as pt2: autoencoder: " in (folder / "README.md").read_text()
    assert not list(folder.glob("*.pt2"))


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface by which a folder is uploaded; it notes what it was sent."""

    sent: ClassVar[list[tuple[str, str | None, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.sent.append((self.path, self.headers.get("Authorization"), body))
        if self.path.endswith("/repos/create"):
            answer: object = {"url": "https://huggingface.co/me/model", "id": "me/model", "name": "me/model"}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = {
                "files": [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            }
        else:
            answer = {"commitUrl": "https://huggingface.co/me/model/commit/" + "0" * 40, "commitOid": "0" * 40}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine, and the user's token where the hub's library keeps it."""
    import huggingface_hub
    from huggingface_hub import constants

    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: real(endpoint=address))
    Hub.sent.clear()
    yield Hub
    server.shutdown()
    server.server_close()


def test_an_exported_folder_is_pushed_whole_and_its_token_is_written_nowhere(run, hub, tmp_path, call):
    folder = exported(run, tmp_path / "model")
    (folder / "private.txt").write_text("not for others")
    code, out, _ = call("push", str(folder), "me/model")
    assert (code, out.strip()) == (0, "https://huggingface.co/me/model/commit/" + "0" * 40)
    commit = next(body for path, _, body in hub.sent if "/commit/" in path)
    names = {
        line["value"]["path"] for line in map(json.loads, commit.splitlines()) if line["key"] in ("file", "lfsFile")
    }
    assert names == {"README.md", CONFIG, WEIGHTS, "reconstructions.png"}
    assert all(token == "Bearer hf_secret" for _, token, _ in hub.sent)
    assert not any(b"hf_secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_what_was_not_exported_is_not_pushed(run, tmp_path, call):
    code, _, err = call("push", run.path, "me/model")
    assert (code, "is no folder that `aezoo export` wrote" in err) == (2, True)
    folder = exported(run, tmp_path / "model")
    (folder / WEIGHTS).write_bytes(b"other")
    code, _, err = call("push", folder, "me/model")
    assert (code, "its hash is another" in err) == (2, True)


OWN = """
    from torch import nn

    class Net(nn.Sequential):
        def __init__(self, image_shape, latent):
            super().__init__(nn.Flatten(), nn.Linear(36, latent), nn.Linear(latent, 36), nn.Unflatten(1, image_shape))

    class Other(Net):
        pass
"""


class Own(nn.Sequential):
    def __init__(self, image_shape, latent=2):
        super().__init__(nn.Flatten(), nn.Linear(36, latent), nn.Linear(latent, 36), nn.Unflatten(1, image_shape))


SETTINGS = {"steps": 5, "seeds": 1, "timing": False, "report": False, "device": "cpu", "observer": aezoo.Observer()}
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 1, 6, 6), dtype=np.uint8)


def test_a_network_of_a_file_is_found_where_the_file_is_as_it_was_and_asked_for_where_not(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own.py"
    file.write_text(textwrap.dedent(OWN))
    variant = "Net[latent=3]"
    run = aezoo.bench(["./own.py:Net[latent=3]"], dataset=PIXELS, out=tmp_path / "run", **SETTINGS)
    expected = aezoo.load(run.path, variant).reconstruct(PIXELS)
    assert expected.shape == PIXELS.shape
    status, _, err = call("export", run.path, variant, "-o", tmp_path / "model")
    assert status == 0, err
    told = json.loads((tmp_path / "model" / CONFIG).read_text())["plugin"]
    assert (told["place"], str(tmp_path) in json.dumps(told)) == ("own.py:Net", False)
    status, out, err = call("reproduce", run.path, "net")
    assert (status, "bit-equal" in out) == (0, True), err
    moved = file.rename(tmp_path / "moved.py")
    for source, asked in ((run.path, variant), (tmp_path / "model", None)):
        with pytest.raises(AezooError, match=r"own\.py is not there; give it with --plugin \./own\.py:Net \(in Python"):
            aezoo.load(source, asked)
        # Its needed argument is in the variant's text.
        with pytest.raises(AezooError, match="the code of plugin moved .* is another"):
            aezoo.load(source, asked, plugins=["./moved.py:Net"])
        model = aezoo.load(source, asked, plugins=["./moved.py:Net"], any_source=True)
        assert np.array_equal(model.reconstruct(PIXELS), expected)
    (tmp_path / "elsewhere").mkdir()
    again = tmp_path / "elsewhere" / "own.py"
    again.write_text(moved.read_text())
    assert np.array_equal(aezoo.load(run.path, variant, plugins=[f"{again}:Net"]).reconstruct(PIXELS), expected)
    status, out, err = call("show", variant, "--plugin", f"{again}:Net", "--image-shape", "1x6x6")
    assert (status, "variants   Net[latent=3]" in out) == (0, True), err
    file.write_text(textwrap.dedent(OWN).replace("36, latent", "36, latent, False"))
    with pytest.raises(AezooError, match=r"own\.py has changed; give it"):
        aezoo.load(run.path, variant)


def test_a_class_of_this_session_is_found_again_and_can_be_given(tmp_path, monkeypatch):
    run = aezoo.bench([Own], dataset=PIXELS, out=tmp_path / "run", **SETTINGS)
    expected = aezoo.load(run.path, "Own").reconstruct(PIXELS)
    # As in another process.
    monkeypatch.setattr("aezoo.registry.outside._AT_HAND", {})
    with pytest.raises(
        AezooError, match=r"Own is not installed: .*plugins=\[Own\], or its file with --plugin \./test_models\.py:Own"
    ):
        aezoo.load(run.path, "Own")
    assert np.array_equal(aezoo.load(run.path, "Own", plugins=[Own]).reconstruct(PIXELS), expected)
    named = aezoo.bench(["Own[latent=3]"], plugins=[Own], dataset=PIXELS, out=tmp_path / "run", **SETTINGS)
    assert "Own[latent=3]" in set(named.table()["variant"])


PROGRAM = """
    import sys, aezoo, numpy as np
    if __name__ == "__main__":
        given = {"Net": Net, "file": "./program.py:Net"}[sys.argv[1]]
        images = np.arange(2160, dtype="uint16").reshape(60, 6, 6)
        aezoo.bench([given], dataset=images, steps=2, seeds=1,
                    timing=False, report=False, device="cpu", out=sys.argv[1])
"""


@pytest.mark.parametrize("benched", ["Net", "file"])
def test_a_class_of_a_program_and_its_file_are_the_same_while_its_code_is(benched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = textwrap.dedent(OWN.replace("image_shape, latent)", "image_shape, latent=3)") + PROGRAM)
    (tmp_path / "program.py").write_text(text)
    subprocess.run([sys.executable, "program.py", benched], check=True)
    assert aezoo.load(benched, "Net", plugins=["./program.py:Net"]).config.variant == "Net"
    monkeypatch.syspath_prepend(str(tmp_path))
    import program

    assert aezoo.load(benched, "Net", plugins=[program.Net]).config.variant == "Net"
    (tmp_path / "program.py").write_text(text + "\n# another line\n")
    for given in ("./program.py:Net", program.Net):
        with pytest.raises(AezooError, match="the code of .* is another"):
            aezoo.load(benched, "Net", plugins=[given])
    sys.modules.pop("program")


def test_a_file_that_benches_or_loads_itself_as_it_is_loaded_is_refused_in_a_line(tmp_path):
    file = tmp_path / "script.py"
    for line, told in (
        ("aezoo.bench(['mlp'])", "calls for a bench"),
        (f"aezoo.load('r', 'Net', plugins=[{str(file)!r}])", "loads itself"),
    ):  # fmt: skip
        file.write_text(f"import aezoo\n{textwrap.dedent(OWN)}\n{line}\n")
        with pytest.raises(AezooError, match=rf"{told}, as it is loaded: .*if __name__ == \"__main__\""):
            aezoo.bench([f"{file}:Net[latent=2]"], dataset=PIXELS, out=tmp_path / "run", **SETTINGS)
