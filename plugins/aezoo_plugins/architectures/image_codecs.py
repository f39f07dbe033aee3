"""JPEG and WebP, as Pillow writes them: what the image coders that everyone has make of the same images."""

import math
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.fitting import spaced

SAMPLE = 1024
"""Training images by whose files the quality is chosen, at the most."""
HIGHEST = 100


class Codec(nn.Module):
    """Write each image as a file, in bytes, and read it back: nothing else passes.

    Three channels make a file of colours; of another number, each channel is a grey file of its own. There are no two
    halves: files differ in length, so that it is `bits`, and no latent size, that says what an image takes.

    Args:
        kind: Pillow's name of the format.
        lowest: Its lowest quality; the highest is 100.
        payload: Takes a file to the number of its bytes that are not the same for all images of a size.
        quality: The quality, or None where `fit` is to find it.
        rate: The bits that a pixel, of all channels together, may take on average, where it is.
    """

    objective = "mse, quality by rate"

    def __init__(
        self, kind: str, lowest: int, payload: Callable[[bytes], int], *, quality: int | None, rate: float
    ) -> None:
        super().__init__()
        if quality is not None and not lowest <= quality <= HIGHEST:
            raise aezoo.AezooError(f"quality must be {lowest} to {HIGHEST}, but is {quality}")
        if not 0 < rate < math.inf:
            raise aezoo.AezooError(f"rate must be above 0, in bits a pixel, but is {rate}")
        self.kind = kind
        self.payload = payload
        self.range = (lowest, HIGHEST) if quality is None else (quality, quality)
        self.rate = rate
        self.register_buffer("quality", torch.tensor(lowest))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W), each level a whole number of 255ths."""
        planes = self.read(self.write(x), "RGB" if x.shape[1] == 3 else "L")
        return planes.view(x.shape).to(x.device)

    def bits(self, x: Tensor) -> Tensor:
        """Return the bits that each image of (B, C, H, W) takes, (B,), float64, on the host, headers apart."""
        sizes = torch.tensor([8 * self.payload(file) for file in self.write(x)], dtype=torch.float64)
        return sizes.view(len(x), -1).sum(1)

    def fit(self, images: Tensor) -> None:
        """Take the quality that is asked for, or the highest at which images (N, C, H, W), uint8, keep to the rate.

        As the mean of at most 1,024 of them, evenly spaced. Where the lowest takes more, it is the lowest.
        """
        x = spaced(images, SAMPLE).cpu() / 255
        most = self.rate * x[0, 0].numel()
        low, high = self.range
        while low < high:
            middle = (low + high + 1) // 2
            self.quality.fill_(middle)
            low, high = (middle, high) if float(self.bits(x).mean()) <= most else (low, middle - 1)
        self.quality.fill_(low)

    def write(self, x: Tensor) -> list[bytes]:
        """Return the files of images (B, C, H, W), rounded to bytes: B of them, or B·C where channels go apart."""
        from PIL import Image

        pixels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        planes = pixels.permute(0, 2, 3, 1) if x.shape[1] == 3 else pixels.flatten(0, 1)
        files, quality = [], int(self.quality)
        for plane in planes.numpy():
            file = BytesIO()
            Image.fromarray(np.ascontiguousarray(plane)).save(file, self.kind, quality=quality)
            files.append(file.getvalue())
        return files

    def read(self, files: list[bytes], mode: str) -> Tensor:
        """Return the images of files, (files, 1 or 3, H, W), float32; `mode` is "L", grey, or "RGB"."""
        from PIL import Image

        pixels = torch.from_numpy(np.stack([np.asarray(Image.open(BytesIO(file)).convert(mode)) for file in files]))
        return (pixels.permute(0, 3, 1, 2).contiguous() if mode == "RGB" else pixels.unsqueeze(1)) / 255


def scan_bytes(file: bytes) -> int:
    """Return how many bytes of a JPEG lie between the header of its scan and the end marker.

    What comes before are tables: those of quantisation follow from the quality, those of Huffman codes are the
    standard's (Annex K).
    """
    start = file.index(b"\xff\xda") + 2
    return len(file) - 2 - start - int.from_bytes(file[start : start + 2], "big")


def frame_bytes(file: bytes) -> int:
    """Return how many bytes the frame of a WebP has, but for the 7 of its start code and size (RFC 6386, 9.1).

    Probabilities and quantisers, which VP8 keeps in each frame, are among them; the container's 20 bytes are not.
    """
    return int.from_bytes(file[16:20], "little") - 7


def build_jpeg(image_shape: aezoo.ImageShape, *, quality: int | None = None, rate: float = 1.0) -> Codec:  # noqa: ARG001
    """Build baseline JPEG with Pillow's other settings; of colours, chroma is kept at half the sides.

    The header is not among the bits: 330 bytes of a grey image, 625 of one in colours, the same for all images of a
    size and quality. Of small images it is most of the file.

    At a bit a pixel the digits of mnist-5k are coded at quality 18. At the lowest, 1, they take 0.40.
    """
    return Codec("JPEG", 1, scan_bytes, quality=quality, rate=rate)


def build_webp(image_shape: aezoo.ImageShape, *, quality: int | None = None, rate: float = 1.0) -> Codec:  # noqa: ARG001
    """Build lossy WebP with Pillow's other settings; grey images are coded as colours, chroma at half the sides.

    The header is not among the bits: 27 bytes, and of a frame of odd length another one that fills it up.

    At a bit a pixel the digits of mnist-5k are coded at quality 1. At the lowest, 0, they take 0.74.
    """
    return Codec("WEBP", 0, frame_bytes, quality=quality, rate=rate)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `jpeg` and `webp`."""
    yield aezoo.Architecture(
        name="jpeg",
        seed_spread="none",
        build=build_jpeg,
        summary="Baseline JPEG at the highest quality that keeps to a rate: quantised cosine transforms of 8x8 pixels",
        reference="ITU-T T.81, 1992; Wallace 1992, IEEE Trans. Consumer Electronics 38(1)",
    )
    yield aezoo.Architecture(
        name="webp",
        seed_spread="none",
        build=build_webp,
        summary="Lossy WebP, a VP8 key frame, at the highest quality that keeps to a rate: predicted blocks",
        reference="Bankoski et al. 2011, RFC 6386 (VP8); container: RFC 9649, 2024",
    )
