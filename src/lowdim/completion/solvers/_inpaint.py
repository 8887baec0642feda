"""The `inpaint` solver: pictures, by smooth surfaces through the known pixels and by low rank, weighed against each other.

Two surfaces have the values of the known pixels: the membrane, of which the sum of squared differences between neighbours is least
(the harmonic one), and the thin plate, of which that of the squared discrete Laplacian is (the biharmonic one). Beside them stands the
low-rank part of `als`, where a quick look says that it has something to tell. The weights are those, none negative and of sum 1, that
predict held-out pixels best: copies of the picture's holes at other places, so that wide holes are judged by wide ones. In a picture with
many missing pixels, windows around some of them are checked.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import scipy.optimize
import scipy.sparse
from scipy.sparse.linalg import cg, splu

from lowdim.completion.solvers._als import ALS
from lowdim.completion.solvers._solver import (
    Array,
    Completion,
    Entries,
    HeldOut,
    Indices,
    Mask,
    Settings,
    Solved,
    Solver,
    described,
    root_mean_square,
    to_dense,
)
from lowdim.errors import UsageError

HELD = 0.1  # of the known pixels
WIDEST = (
    0.25  # of the known pixels that a copy of one hole may take; where a hole is larger, single pixels are held out
)
COPIES = 20  # of each hole in a round, at most
ROUNDS = 5
SURELY = 1e3  # how much more than their fit it counts that the weights add up to 1
LOOK_RANK, LOOK_SWEEPS = 8, 10
WORTH = 0.05  # weight of the low-rank part in the look, from which on it is fitted
FEW = 2_000  # missing pixels that are solved by a factorisation anyway
DIRECT = 60_000  # missing pixels of one picture up to which it is solved at once, and checked as a whole
TILE, HALO = 192, 12  # pixels
WINDOW, WIDTHS = 256, 4  # sides of a window: as many pixels, or as many times the widest hole
STEPS, PRECISION = 300, 1e-6  # of conjugate gradients; where holes are wide, that is not enough

Window = tuple[slice, slice]


@dataclass(frozen=True)
class PictureCompletion:
    """A weighted mean of two surfaces, and of that and a low-rank part where its factors are determined.

    Attributes:
        channels: Of the picture, whose columns stand side by side.
        smooth: ``(2,)``, the weights of the membrane and of the thin plate.
        share: The weight of the low-rank part.
        low_rank: That part, or None where it has no weight.
        training: The known pixels that it was fitted to.
        filled: ``(m, n)``, that picture, filled.
        noise: Root mean square error of held-out pixels.
    """

    channels: int
    smooth: Array
    share: float
    low_rank: Completion | None
    training: Entries
    filled: Array
    noise: float

    @property
    def factors(self) -> tuple[Array, Array]:
        if self.low_rank is None:
            return np.zeros((self.filled.shape[0], 0)), np.zeros((self.filled.shape[1], 0))
        left, right = self.low_rank.factors
        return left * self.share, right

    @property
    def iterations(self) -> int:
        return self.low_rank.iterations if self.low_rank else 0

    @property
    def converged(self) -> bool:
        return self.low_rank is None or self.low_rank.converged

    def predict(self, rows: Indices, cols: Indices) -> Array:
        return self.filled[rows, cols]

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        return np.full(rows.size, self.noise)

    def complete(self, entries: Entries) -> Array:
        ours = self.training
        same = entries.shape == ours.shape and all(
            np.array_equal(theirs, own)
            for theirs, own in ((entries.rows, ours.rows), (entries.cols, ours.cols), (entries.values, ours.values))
        )
        if same:
            return self.filled.copy()
        return _combined(entries, self.channels, self.smooth, self.share, self.low_rank)


def _combined(entries: Entries, channels: int, smooth: Array, share: float, low_rank: Completion | None) -> Array:
    """The picture with its known pixels, filled."""
    pixels, missing = _picture(entries, channels)
    surfaces = (w * _filled(pixels, missing, order) for order, w in zip((1, 2), smooth, strict=True) if w)
    mean = sum(surfaces, np.zeros_like(pixels)).transpose(0, 2, 1).reshape(entries.shape)
    if low_rank is None:
        return mean
    rows, cols = _determined(entries, low_rank)
    return np.where(rows[:, None] & cols, (1 - share) * mean + share * low_rank.complete(entries), mean)


def solve_inpaint(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Fill a picture; see the module.

    Cost: some 10 microseconds for each missing pixel, as much for each checked one, and that of `als` where it has a weight.
    """
    del held, start
    channels = settings.channels
    if not channels:
        raise UsageError("The solver 'inpaint' is for pictures; for other input leave `solver` at 'auto'.")
    pixels, missing = _picture(entries, channels)
    rounds = [_Round.of(pixels, missing, *check) for check in _checks(missing, settings.seed)]
    smooth = _weights([np.concatenate(parts) for parts in zip(*(one.parts for one in rounds), strict=True)])
    values = rounds[0].parts[-1]
    low_rank, share, predictions = _low_rank(
        entries, rounds[0], smooth @ np.stack(rounds[0].parts[:-1]), missing, settings
    )
    noise = max(root_mean_square(values - predictions) if values.size else 0.0, np.finfo(np.float64).tiny)
    filled = _combined(entries, channels, smooth, share, low_rank)
    completion = PictureCompletion(channels, smooth, share, low_rank, entries, filled, noise)
    held = rounds[0].held_of(entries, missing)
    held_out = HeldOut(entries.cols[held], values, predictions, np.full(values.size, noise))
    shares = zip(("membrane", "thin plate", "low rank"), [*(1 - share) * smooth, share], strict=True)
    reason = "weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in shares if weight >= 0.005)
    return Solved(completion, held_out, reason=reason, checked=held, lacked=(held,))


@dataclass(frozen=True)
class _Round:
    """What the surfaces of the other pixels of a window say of held ones: one array for each, and last the true values.

    In the order of the entries.
    """

    window: Window
    held: Mask
    entries: Entries
    parts: tuple[Array, Array, Array]

    @staticmethod
    def of(pixels: Array, missing: Mask, window: Window, held: Mask) -> "_Round":
        pixels, missing = pixels[window], missing[window]
        holed = np.where(missing[:, :, None], np.nan, pixels)
        entries = Entries.from_dense(holed.transpose(0, 2, 1).reshape(len(holed), -1))
        surfaces = (_filled(np.where(held[:, :, None], 0.0, pixels), missing | held, order) for order in (1, 2))
        membrane, plate, values = (_in_order(part, held) for part in (*surfaces, pixels))
        return _Round(window, held, entries, (membrane, plate, values))

    def held_of(self, entries: Entries, missing: Mask) -> Mask:
        """Which entries of a picture, or of the window, are held."""
        held = self.held
        if held.shape != missing.shape:
            held = np.zeros_like(missing)
            held[self.window] = self.held
        return held[entries.rows, entries.cols % held.shape[1]]


def _in_order(pixels: Array, held: Mask) -> Array:
    """The held pixels in the order of entries: row by row, channel by channel."""
    return pixels.transpose(0, 2, 1)[np.broadcast_to(held[:, None], (held.shape[0], pixels.shape[2], held.shape[1]))]


def _low_rank(
    entries: Entries, check: _Round, smooth: Array, missing: Mask, settings: Settings
) -> tuple[Completion | None, float, Array]:
    """The low-rank part, its weight beside the surfaces, and what both say of the held pixels.

    None where a quick look of few factors, at the window alone, gives it hardly any weight.
    """
    window, values = check.entries, check.parts[-1]
    if not values.size or min(window.shape) < 2:
        return None, 0.0, smooth
    few = settings.rank or min(LOOK_RANK, min(window.shape) - 1)
    look = replace(settings, rank=few, iterations=LOOK_SWEEPS)
    for seen, tried in ((window, look), (entries, settings)):
        held = check.held_of(seen, missing if seen is entries else check.held)
        training = seen.select(~held)
        solved = ALS.solve(seen, held, tried)
        rows, cols = _determined(training, solved.completion)
        told = rows[seen.rows[held]] & cols[seen.cols[held]]
        theirs = solved.held_out.predictions
        share = float(_weights([smooth[told], theirs[told], values[told]])[1])
        if share < WORTH:
            return None, 0.0, smooth
    return solved.completion, share, np.where(told, (1 - share) * smooth + share * theirs, smooth)


def _determined(entries: Entries, completion: Completion) -> tuple[Mask, Mask]:
    """Rows and columns with as many entries as the completion has factors."""
    rank = max(completion.factors[0].shape[1], 1)
    return entries.row_counts >= rank, entries.col_counts >= rank


def _weights(parts: list[Array]) -> Array:
    """Of the convex combination of all parts but the last that is nearest to the last; all of the first where there is nothing to fit."""
    *parts, values = parts
    if not values.size:
        return np.eye(len(parts))[0]
    errors = np.stack(parts, axis=1) - values[:, None]
    gram = np.linalg.qr(errors / max(float(np.abs(errors).max()), np.finfo(np.float64).tiny), mode="r")
    one = SURELY * np.sqrt(values.size)
    weights = scipy.optimize.nnls(
        np.vstack([gram, np.full((1, len(parts)), one)]), np.append(np.zeros(len(gram)), one)
    )[0]
    return weights / weights.sum()


def _checks(missing: Mask, seed: int) -> list[tuple[Window, Mask]]:
    """Windows of the picture, and which of their pixels to hold out: several times of all of it, or once of each of some parts."""
    generator = np.random.default_rng((seed, 1))  # the holes of a sample picture are the first draws of the seed itself
    whole = (slice(None), slice(None))
    if missing.sum() <= DIRECT:
        return [(whole, held) for held in _held_pixels(missing, ROUNDS, generator)]
    windows = _windows(missing, generator)
    return [(window, held) for window in windows for held in _held_pixels(missing[window], 1, generator)]


def _windows(missing: Mask, generator: np.random.Generator) -> list[Window]:
    """Around missing pixels at random, wide enough for copies of the widest hole."""
    away = np.asarray(scipy.ndimage.distance_transform_cdt(missing))
    side = max(WINDOW, WIDTHS * 2 * int(away.max()))
    places = np.argwhere(missing)[generator.choice(int(missing.sum()), ROUNDS)]
    starts = np.clip(places - side // 2, 0, np.maximum(np.array(missing.shape) - side, 0))
    return [(slice(top, top + side), slice(left, left + side)) for top, left in starts.tolist()]


def _held_pixels(missing: Mask, rounds: int, generator: np.random.Generator) -> list[Mask]:
    """Known pixels under copies of the holes, moved to other places, in several rounds, or once single ones."""
    known = int((~missing).sum())
    holes = np.zeros(missing.shape, np.int32)
    scipy.ndimage.label(missing, output=holes)
    if np.bincount(holes.ravel())[1:].max(initial=0) > WIDEST * known:
        drawn = [(generator.random(missing.shape) < HELD) & ~missing]
    else:
        drawn = [_copies(holes, HELD * known, generator) for _ in range(rounds)]
    return [held for held in drawn if not (held | missing).all()] or [np.zeros_like(missing)]


def _copies(holes: Indices, wanted: float, generator: np.random.Generator) -> Mask:
    """Known pixels under copies of the holes (labelled from 1, 0 elsewhere) at random places, about as many as are wanted."""
    boxes = scipy.ndimage.find_objects(holes)
    held, taken = np.zeros(holes.shape, bool), 0
    for hole in np.concatenate([generator.permutation(len(boxes)) for _ in range(COPIES)]).tolist():
        if taken >= wanted:
            break
        shape = holes[boxes[hole]] == hole + 1
        places = [_shifted(part, whole, generator) for part, whole in zip(shape.shape, holes.shape, strict=True)]
        place = np.ix_(*places)
        new = shape & (holes[place] == 0) & ~held[place]
        held[place] |= new
        taken += int(new.sum())
    return held


def _shifted(part: int, whole: int, generator: np.random.Generator) -> Indices:
    """Consecutive places at random; a hole over more than half of the picture goes on at the other side."""
    free = whole if part > whole / 2 else whole - part + 1
    return (generator.integers(free) + np.arange(part)) % whole


def _picture(entries: Entries, channels: int) -> tuple[Array, Mask]:
    """``(H, W, C)`` pixels, 0 where they are missing ``(H, W)``."""
    values, observed = to_dense(entries)
    height, width = entries.shape[0], entries.shape[1] // channels
    return values.reshape(height, channels, width).transpose(0, 2, 1), ~observed[:, :width]


def _filled(pixels: Array, missing: Mask, order: int) -> Array:
    """``(H, W, C)`` with its missing pixels ``(H, W)`` from the surface of this order.

    Where they are many, tiles are solved one by one, between known pixels and those of the surface of a picture of half the size.
    """
    if missing.sum() <= FEW:
        return _solved(pixels, missing, order)
    filled = _enlarged(_filled(*_halved(pixels, missing), order), pixels, missing)
    if missing.sum() <= DIRECT:
        return _solved(filled, missing, order)
    output = pixels.copy()
    for top in range(0, missing.shape[0], TILE):
        for left in range(0, missing.shape[1], TILE):
            around = tuple(slice(max(start - HALO, 0), start + TILE + HALO) for start in (top, left))
            unknown = missing[around].copy()
            for axis, start, end in zip((0, 1), (top, left), missing.shape, strict=True):
                edges = np.moveaxis(unknown, axis, 0)
                if start - HALO > 0:
                    edges[:order] = False
                if start + TILE + HALO < end:
                    edges[-order:] = False
            inner = tuple(slice(start, start + TILE) for start in (top, left))
            part = tuple(
                slice(mine.start - its.start, mine.start - its.start + TILE)
                for mine, its in zip(inner, around, strict=True)
            )
            output[inner] = _solved(filled[around], unknown, order)[part]
    return output


def _halved(pixels: Array, missing: Mask) -> tuple[Array, Mask]:
    """Means of the known pixels of blocks of four; a block without any is missing."""
    height, width = (size // 2 + size % 2 for size in missing.shape)
    pad = [(0, 2 * half - size) for half, size in zip((height, width), missing.shape, strict=True)]
    known = np.pad(~missing, pad).reshape(height, 2, width, 2).sum((1, 3))
    sums = np.pad(np.where(missing[:, :, None], 0.0, pixels), [*pad, (0, 0)])
    means = sums.reshape(height, 2, width, 2, -1).sum((1, 3)) / np.maximum(known, 1)[:, :, None]
    return means, known == 0


def _enlarged(half: Array, pixels: Array, missing: Mask) -> Array:
    """The known pixels, and in the holes those of a picture of half the size."""
    double = half.repeat(2, axis=0).repeat(2, axis=1)[: missing.shape[0], : missing.shape[1]]
    return np.where(missing[:, :, None], double, pixels)


def _solved(pixels: Array, missing: Mask, order: int) -> Array:
    """The surface in one piece: ``E' E`` of its energy, restricted to the missing pixels, from those as they are.

    Conjugate gradients end soon where the holes are small; where they do not, a sparse factorisation does it.
    """
    unknown = missing.ravel()
    if not unknown.any():
        return pixels
    if unknown.all():
        return np.zeros_like(pixels)
    values = pixels.reshape(unknown.size, -1)
    laplacian = _laplacian(missing.shape)
    if order == 1:
        matrix, known = laplacian[unknown][:, unknown], laplacian[unknown][:, ~unknown]
    else:
        matrix, known = (laplacian[:, unknown].T @ laplacian[:, side] for side in (unknown, ~unknown))
    output, target = values.copy(), -(known @ values[~unknown])
    found = _by_steps(matrix, target, values[unknown]) if unknown.sum() > FEW else None
    output[unknown] = _at_once(matrix, target) if found is None else found
    return output.reshape(pixels.shape)


def _at_once(matrix: scipy.sparse.csr_array, target: Array) -> Array:
    factor = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factor.solve(target)


def _by_steps(matrix: scipy.sparse.csr_array, target: Array, start: Array) -> Array | None:
    """Conjugate gradients, or None where they take too many steps."""
    scaling = scipy.sparse.diags_array(1 / np.asarray(matrix.diagonal(), np.float64))
    found = start.copy()
    for channel in range(target.shape[1]):
        found[:, channel], failed = cg(
            matrix, target[:, channel], start[:, channel], rtol=PRECISION, maxiter=STEPS, M=scaling
        )
        if failed:
            return None
    return found


def _laplacian(shape: tuple[int, ...]) -> scipy.sparse.csr_array:
    """The negative Laplacian of a grid that ends without slope."""
    lines: list[scipy.sparse.csr_array] = []
    for size in shape:
        steps = scipy.sparse.eye_array(size - 1, size, k=1) - scipy.sparse.eye_array(size - 1, size)
        lines.append(scipy.sparse.csr_array(steps.T @ steps))
    down, across = (scipy.sparse.eye_array(size) for size in shape)
    return scipy.sparse.csr_array(scipy.sparse.kron(lines[0], across) + scipy.sparse.kron(down, lines[1]))


def _suits(entries: Entries, settings: Settings) -> str | None:
    return f"{described(entries)}: a picture" if settings.channels else None


INPAINT = Solver(
    name="inpaint",
    title="pictures: smooth surfaces through the known pixels and low rank, weighed by held-out pixels",
    solve=solve_inpaint,
    memory=lambda entries, shape, rank: 60 * entries + 30 * shape[0] * shape[1] + 100 * 2**20,
    suits=_suits,
    one_scale=True,
    shrinks=True,
    fills_empty=True,
    reads=frozenset({"depth", "iterations", "tolerance", "biases"}),
)
