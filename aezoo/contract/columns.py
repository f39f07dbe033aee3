"""The columns of a table: their names and their order, which programs rely on."""

COLUMNS = (
    "rank", "variant", "objective", "latent_size", "num_params", "test_mse", "test_mse_low", "test_mse_high", "vs_pca",
    "train_images_per_s", "infer_images_per_s", "peak_memory_mb", "seeds", "status", "bits", "active_units",
    "train_vs_reference", "infer_vs_reference", "matmul_share", "train_spread", "infer_spread", "flops_per_image",
    "train_flops_per_image", "infer_memory_mb", "device_memory_mb", "infer_device_memory_mb", "compile_seconds",
    "batch_size", "threads", "precision", "compiled", "device", "rank_low", "rank_high", "deterministic",
    "exceptions",
)  # fmt: skip
"""`vs_pca` is test_mse over PCA's at the same latent size, where the latent is continuous; `bits` are what the codes of
an image take, where it is discrete; `active_units` how many of its numbers are not 0 on average, where it is sparse.
`vs_reference` is a speed over that of the reference for speeds in the same rounds; `matmul_share` the FLOPs a second of
training over those of a product of two matrices. A spread is an interquartile range over its median. `rank_low` to
`rank_high` are the ranks that the evidence allows. It is `deterministic` where the preflight came twice to one network
from one seed. `exceptions` are the checks of the contract that the plugin's author declared as not met; the notes have
the reasons. After these come the metrics that were asked for, a column each, their means over the seeds."""
HIDDEN = COLUMNS[COLUMNS.index("matmul_share") :]
"""Columns for table.csv alone: a person reads them in the notes, as marks on a figure, or not at all."""
GROUPED_COLUMNS = (
    "code", "variant", "objective", "test_mse", "test_mse_low", "test_mse_high", "vs_pca", "latent_size", "bits",
    "active_units", "num_params", "seeds", "status",
)  # fmt: skip
"""The columns of the table in groups."""
