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
]
RECIPE = "import aezoo\nrecipe = aezoo.read_recipe('quick').change(dataset='digits', steps=60, seeds=2)"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return what each cell put out, by its kind."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (RECIPE, *CELLS)])
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return [[output for output in cell.outputs if "data" in output] for cell in notebook.cells[1:]]


def test_progress_is_shown_in_the_cell_and_ends_at_the_last_trial(outputs):
    (progress,) = outputs[0]
    assert "writing the page of the run" in progress.data["text/html"]
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
