"""A bench in a real notebook: a kernel runs the cells, and their outputs are read."""

import nbclient
import nbformat
import pytest

CELLS = [
    "import aezoo\nrun = aezoo.bench(['mlp[latent_dim=2]'], recipe=recipe, timing=False, out='run')",
    "run",
    "run.table()",
    "aezoo.create('mlp', image_shape=(1, 8, 8))",
    "kept = run.reconstructions()['mlp[latent_dim=2]']\n"
    "(list(run.curves().columns), len(run.errors()), kept.shape, run.test_images().shape)",
    "from torch import nn\ndef broken(image_shape):\n    raise RuntimeError('no such luck')\n"
    "bad = aezoo.bench([broken], recipe=recipe, timing=False, report=False, out='run')",
    "bad",
    "import os, pathlib, signal, threading, time\n"
    "def interrupt():\n"
    "    while len(list(pathlib.Path('long').glob('trials/*.json'))) < 2: time.sleep(0.1)\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "threading.Thread(target=interrupt, daemon=True).start()\n"
    "try:\n    aezoo.bench(['mlp'], dataset='digits', steps=10**6, timing=False, report=False, out='long')\n"
    "except KeyboardInterrupt as stopped:\n    left = stopped.run\n"
    "left.table()[['variant', 'status']]",
    "class Spare(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Conv2d(1, 1, 1))\n"
    "        self.spare = nn.Parameter(nn.Linear(2, 2).weight.detach())\n"
    "noted = aezoo.bench([Spare], recipe=recipe, timing=False, report=False, out='noted')",
    "noted",
    "try:\n    aezoo.bench(['mpl'])\nexcept aezoo.AezooError:\n    shell = get_ipython()\n    shell.showtraceback()",
]
RECIPE = "import aezoo\nrecipe = aezoo.read_recipe('quick').change(dataset='digits', steps=60, seeds=2)"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return what each cell put out, by its kind."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (RECIPE, *CELLS)])
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return [
        [output for output in cell.outputs if {"data", "text", "evalue"} & output.keys()] for cell in notebook.cells[1:]
    ]


def test_progress_is_shown_in_the_cell_and_ends_at_the_last_trial(outputs):
    (progress,) = (output for output in outputs[0] if "data" in output)
    assert "done: 6 trials run, into run" in progress.data["text/html"]
    assert "<progress value='6' max='6'>" in progress.data["text/html"]


def test_a_run_a_table_and_a_network_display_themselves(outputs):
    run, table, network = (some[-1].data["text/html"] for some in outputs[1:4])
    assert "<table" in run
    assert "mlp[latent_dim=2]" in run
    assert "report.html" in run
    assert "test_mse" in table
    assert "parameters, objective mse" in network


def test_a_run_gives_tidy_tables_and_arrays(outputs):
    text = " ".join(outputs[4][-1].data["text/plain"].split())
    assert "'variant', 'seed', 'step', 'images', 'seconds', 'train_mse'" in text
    assert "2184, (16, 1, 8, 8), (16, 1, 8, 8)" in text  # three variants, two seeds, 364 images


def test_a_network_that_fails_says_why_in_the_cell_and_on_the_display(outputs):
    warned = "".join(output.text for output in outputs[5] if "text" in output)
    assert "UserWarning: broken seed 0: error: RuntimeError: no such luck" in warned
    shown = outputs[6][-1].data["text/html"]
    assert "<li>error: broken seed 0: RuntimeError: no such luck</li>" in shown
    # It speaks of its own call.
    assert "mlp" not in shown


def test_after_an_interrupt_the_run_is_at_hand(outputs):
    shown = outputs[7][-1].data["text/html"]
    assert "interrupted" in shown
    assert "mlp[latent_dim=2]" in shown


def test_what_is_noted_of_a_network_is_warned_of_once_at_the_line_of_the_cell_and_is_on_the_display(outputs):
    warned = "".join(output.text for output in outputs[8] if "text" in output)
    assert warned.count("UserWarning: note: Spare: expected a gradient") == 1
    assert "ipykernel" in warned
    assert "observer.py" not in warned
    shown = outputs[9][-1].data["text/html"]
    assert "<li>note: Spare: expected a gradient" in shown
    assert "1,433 images of 1x8x8 to train on, 364 that test" in shown
    assert "<li>a smoke test: 1 of 1 trained variants" in shown


def test_a_wrong_call_is_one_line_and_leaves_nothing_in_the_cell(outputs):
    (shown,) = outputs[10]
    assert shown["evalue"].startswith("no architecture 'mpl'")
    assert [line.partition(":")[0] for line in shown["traceback"]] == ["AezooError"]
