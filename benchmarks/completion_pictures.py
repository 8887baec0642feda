"""Pictures with missing pixels, beside free inpainting on the same pixels: `python benchmarks/completion_pictures.py [NAME ...]`.

Peers: OpenCV's two methods (radius 3) and scikit-image's biharmonic inpainting; `pip install opencv-python-headless scikit-image`.
Pictures: scikit-learn's two, and those that come with scikit-image, reduced by block means to about 220 pixels at the shorter side.
Masks (generator seed 3): 30, 60 and 90 % of the pixels at random, ten squares of 12 to 27 pixels, twelve scratches of 3 pixels, a text.
Printed: PSNR of the missing pixels in dB, the gain over the best peer, processor seconds, and the weights that held-out pixels gave.
The first four pictures served the design.
"""

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage
from PIL import Image, ImageDraw
from skimage.restoration import inpaint_biharmonic

from lowdim.completion import DeepMatrixCompletion
from lowdim.completion.entries._inputs import SAMPLES, Picture, sample_picture

DESIGN, OTHERS = ("china", "flower", "camera", "brick"), ("astronaut", "coffee", "chelsea", "gravel", "chessboard_RGB")
SIDE = 220


def picture(name: str) -> np.ndarray:
    """``(H, W, C)``; one channel where it is grey."""
    if name in SAMPLES:
        return sample_picture(name, 0.5, 0).pixels
    pixels = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB"))
    step = max(1, min(pixels.shape[:2]) // SIDE)
    height, width = (size // step for size in pixels.shape[:2])
    blocks = pixels[: height * step, : width * step].reshape(height, step, width, step, 3)
    small = np.round(blocks.mean((1, 3))).astype(np.uint8)
    return small[:, :, :1] if (small == small[:, :, :1]).all() else small


def masks(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The missing pixels by the name of the mask."""
    generator, (height, width) = np.random.default_rng(3), shape
    found = {f"{share:.0%}": generator.random(shape) < share for share in (0.3, 0.6, 0.9)}
    squares, scratches, text = (Image.new("L", (width, height)) for _ in range(3))
    for _ in range(10):
        side = int(generator.integers(12, 28))
        left, top = int(generator.integers(width - side)), int(generator.integers(height - side))
        ImageDraw.Draw(squares).rectangle((left, top, left + side - 1, top + side - 1), fill=1)
    for _ in range(12):
        ends = [(int(generator.integers(width)), int(generator.integers(height))) for _ in range(2)]
        ImageDraw.Draw(scratches).line(ends, fill=1, width=3)
    for top in range(6, height - 20, 28):
        ImageDraw.Draw(text).text((3, top), "low dimensional structure in deep networks", fill=1, font_size=20)
    return found | {
        "squares": np.asarray(squares) > 0,
        "scratches": np.asarray(scratches) > 0,
        "text": np.asarray(text) > 0,
    }


def ours(given: Picture) -> tuple[np.ndarray, str]:
    model = DeepMatrixCompletion(max_rank=60, clip=(0, 255), keep_empty_features=True).fit(given)
    return given.filled(model.transform(given.entries)), model.reason_.split("weights: ")[-1]


def opencv(given: Picture, method: int) -> np.ndarray:
    holed = given.holed()
    filled = cv2.inpaint(holed.squeeze() if holed.shape[2] == 1 else holed, given.missing.astype(np.uint8), 3, method)
    return filled.reshape(holed.shape)


PEERS: dict[str, Callable[[Picture], np.ndarray]] = {
    "Telea": lambda given: opencv(given, cv2.INPAINT_TELEA),
    "Navier-Stokes": lambda given: opencv(given, cv2.INPAINT_NS),
    "biharmonic": lambda given: 255 * inpaint_biharmonic(given.holed(), given.missing, channel_axis=-1),
}


def psnr(filled: np.ndarray, given: Picture) -> float:
    errors = (np.clip(filled, 0, 255) - given.pixels.astype(float))[given.missing]
    return 10 * np.log10(255**2 / max(np.mean(errors**2), 1e-9))


def main() -> None:
    warnings.simplefilter("ignore")
    gains: dict[str, list[float]] = {"design": [], "others": []}
    for name in sys.argv[1:] or [*DESIGN, *OTHERS]:
        pixels = picture(name)
        for mask, missing in masks(pixels.shape[:2]).items():
            given = Picture(pixels, missing)
            results = {peer: psnr(fill(given), given) for peer, fill in PEERS.items()}
            start = time.process_time()
            filled, weights = ours(given)
            seconds = time.process_time() - start
            own = psnr(filled, given)
            gain = own - max(results.values())
            gains["design" if name in DESIGN else "others"].append(gain)
            peers = ", ".join(f"{peer} {value:.2f}" for peer, value in results.items())
            print(
                f"{name:10} {mask:9} lowdim {own:.2f}, {peers}; gain {gain:+.2f}; {seconds:.1f} s; {weights}",
                flush=True,
            )
    for group, values in gains.items():
        if values:
            below = sum(gain < -0.2 for gain in values)
            print(
                f"{group}: median gain {np.median(values):+.2f}, least {min(values):+.2f}, {below} of {len(values)} below -.2"
            )


if __name__ == "__main__":
    main()
