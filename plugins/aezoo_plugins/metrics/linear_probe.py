"""How much a straight line through the latents knows of the labels: logistic regression, as scikit-learn fits it."""

import warnings
from collections.abc import Iterator

import aezoo

MAX_ITERATIONS = 1000


def linear_probe(evaluation: aezoo.Evaluation) -> float:
    """Return the accuracy on the test images of a probe fitted on the latents of the training images, 0 to 1.

    Latents are standardised by the training images' mean and deviation; the penalty is scikit-learn's own (L2, C=1).

    Raises:
        AezooError: the network has no latent, an empty one, or the data set no labels; or the fit did not converge.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import, and `aezoo list` imports this file
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_labels, test_labels = (evaluation.labels(part).cpu().numpy() for part in ("train", "test"))
    train_NL, test_ML = (evaluation.latents(part).cpu().numpy() for part in ("train", "test"))
    if train_NL.shape[1] == 0:
        raise aezoo.AezooError("the latent is empty")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            probe.fit(train_NL, train_labels)
        except ConvergenceWarning:
            raise aezoo.AezooError(f"its fit did not converge in {MAX_ITERATIONS} iterations") from None
    return float(probe.score(test_ML, test_labels))


@aezoo.hookimpl
def aezoo_metrics() -> Iterator[aezoo.Metric]:
    """Contribute `linear_probe`."""
    yield aezoo.Metric(
        name="linear_probe",
        compute=linear_probe,
        summary="accuracy on the test images of logistic regression on the latents, 0 to 1; needs labels",
        reference="Alain & Bengio 2016, arXiv:1610.01644",
        higher_is_better=True,
    )
