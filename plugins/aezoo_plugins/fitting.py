"""What closed forms share: a sample of the training images, k-means of points, and arithmetic in float32."""

import math
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def spaced(images: Tensor, most: int) -> Tensor:
    """Return at most so many of the images (N, ...), evenly spaced; all of them where there are no more."""
    if len(images) <= most:
        return images
    return images[torch.arange(most, device=images.device) * len(images) // most]


def lloyd(points: Tensor, count: int) -> Tensor:
    """Return `count` centroids (count, D), float32, of points (N, D): Lloyd's algorithm from k-means++, on one thread.

    Of fewer points each is a centroid, in turn, which leaves no error. Where few are distinct, centroids coincide.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if len(points) <= count:
        return points.float().repeat(math.ceil(count / len(points)), 1)[:count]
    seed = int(torch.randint(2**31, ()))
    with threadpool_limits(1), warnings.catch_warnings():
        # It tells of centroids that coincide.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(count, n_init=1, random_state=seed).fit(points.float().cpu().numpy())
    return torch.from_numpy(fitted.cluster_centers_).to(points.device)


def in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast: searches and solvers need float32 where a recipe's layers take bfloat16."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
