"""PSNR and SSIM of the reconstructions of the test images, as torchmetrics computes them. Pixels are in [0, 1]."""

from collections.abc import Iterator

import aezoo

SSIM_WINDOW = 11


def psnr(evaluation: aezoo.Evaluation) -> float:
    """Return the mean over the images of each one's peak signal-to-noise ratio, in dB."""
    from torchmetrics.image import PeakSignalNoiseRatio  # slow to import, and `aezoo list` imports this file

    metric = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean").to(evaluation.device)
    for x_BCHW, reconstruction_BCHW in evaluation.batches("test"):
        metric.update(reconstruction_BCHW, x_BCHW)
    return float(metric.compute())


def ssim(evaluation: aezoo.Evaluation) -> float:
    """Return the mean structural similarity, Gaussian windows of 11x11 pixels, sigma 1.5; 1 is equality.

    Raises:
        AezooError: the images are smaller than a window.
    """
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    metric = StructuralSimilarityIndexMeasure(data_range=1.0, kernel_size=SSIM_WINDOW).to(evaluation.device)
    for x_BCHW, reconstruction_BCHW in evaluation.batches("test"):
        height, width = x_BCHW.shape[2:]
        if min(height, width) < SSIM_WINDOW:
            raise aezoo.AezooError(f"images of {height}x{width} are smaller than its window of 11x11 pixels")
        metric.update(reconstruction_BCHW, x_BCHW)
    return float(metric.compute())


@aezoo.hookimpl
def aezoo_metrics() -> Iterator[aezoo.Metric]:
    """Contribute `psnr` and `ssim`."""
    yield aezoo.Metric(
        name="psnr",
        compute=psnr,
        summary="peak signal-to-noise ratio, dB, mean over the test images",
        reference="torchmetrics, PeakSignalNoiseRatio",
        higher_is_better=True,
    )
    yield aezoo.Metric(
        name="ssim",
        compute=ssim,
        summary="structural similarity, mean over the test images, 1 is equality",
        reference="Wang et al. 2004; torchmetrics, StructuralSimilarityIndexMeasure",
        higher_is_better=True,
    )
