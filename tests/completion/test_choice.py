"""Which solver is chosen, and the guards: biases when nothing does better, thin rows, remarks."""

import numpy as np
import pytest

from lowdim.completion import CompletionWarning, DeepMatrixCompletion
from lowdim.completion._engine import _suitable
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._completions import fit_biases, left_out_biases
from lowdim.completion.solvers._solver import HeldOut, Settings, hold_out

NAN = float("nan")


def planted(m: int, n: int, rank: int, share: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A low-rank matrix of unit entries and its observed part; every row and column has at least rank + 1 entries."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(m, rank)) @ generator.normal(size=(rank, n)) / np.sqrt(rank)
    observed = generator.random((m, n)) < share
    for line in [*observed, *observed.T]:
        free = np.flatnonzero(~line)
        line[generator.permutation(free)[: max(rank + 1 - int(line.sum()), 0)]] = True
    return matrix, np.where(observed, matrix + noise * generator.normal(size=(m, n)), NAN)


def error(completed: np.ndarray, matrix: np.ndarray, holed: np.ndarray) -> float:
    missing = np.isnan(holed)
    return float(np.linalg.norm((completed - matrix)[missing]) / np.linalg.norm(matrix[missing]))


def test_a_noisy_table() -> None:
    matrix, holed = planted(300, 20, 3, 0.6, 0.3, seed=0)
    model = DeepMatrixCompletion().fit(holed)
    assert model.solver_ == "table"
    assert "300 x 20" in model.reason_
    assert error(model.transform(holed), matrix, holed) < 0.3


def test_a_table_without_noise() -> None:
    matrix, holed = planted(400, 60, 4, 0.4, 0.0, seed=1)
    model = DeepMatrixCompletion().fit(holed)
    assert model.solver_ == "als"
    assert model.rank_ == 4
    assert error(model.transform(holed), matrix, holed) < 1e-3


def test_few_entries_without_noise() -> None:
    matrix, holed = planted(120, 100, 2, 0.06, 0.0, seed=2)  # 1.65 entries per degree of freedom
    model = DeepMatrixCompletion(max_rank=5).fit(holed)
    assert (model.solver_, model.sure_, model.rank_) == ("exact", True, 2)
    assert error(model.transform(holed), matrix, holed) < 1e-6


def test_few_entries_with_noise_are_not_called_exact() -> None:
    _, holed = planted(120, 100, 2, 0.06, 0.3, seed=3)
    model = DeepMatrixCompletion(max_rank=5).fit(holed)
    assert model.sure_ is not True


def test_ratings() -> None:
    generator = np.random.default_rng(4)
    _, holed = planted(200, 150, 2, 0.15, 0.3, seed=4)
    stars = np.clip(np.round(3 + holed + 0.5 * generator.normal(size=(200, 1))), 1, 5)
    model = DeepMatrixCompletion().fit(stars)
    assert model.solver_ == "ratings"
    assert model.held_out_error_ < model.biases_error_
    assert (model._completed.scale == model._completed.scale[0]).all()


def test_a_sparse_noisy_matrix_is_no_dense_table() -> None:
    _, holed = planted(400, 300, 2, 0.03, 0.3, seed=6)
    entries = Entries.from_dense(holed)
    record, reason = _suitable(entries, Settings(), scale=True)
    assert record.name == "ratings" and "sparse and noisy" in reason


def test_large_matrices_need_als() -> None:
    entries = Entries.from_triplets(np.arange(10_000), np.arange(10_000), np.random.default_rng(0).normal(size=10_000))
    assert _suitable(entries, Settings(), scale=True)[0].name == "als"


@pytest.mark.filterwarnings("ignore:biases=False has no effect on the solver 'ratings-quick'")
@pytest.mark.parametrize("solver", ["exact", "als", "gd", "ratings-quick"])
def test_every_solver_completes_what_it_is_for(solver: str) -> None:
    matrix, holed = planted(80, 60, 2, 0.4, 0.0, seed=5)
    model = DeepMatrixCompletion(solver=solver, rank=2, biases=False).fit(holed)
    assert model.solver_ == solver
    completed = model.transform(holed)
    assert error(completed, matrix, holed) < (0.3 if solver == "ratings-quick" else 1e-3)
    np.testing.assert_allclose(model.factors_[0].shape, (80, 2))
    np.testing.assert_array_equal(
        completed, DeepMatrixCompletion(solver=solver, rank=2, biases=False).fit_transform(holed)
    )


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
@pytest.mark.parametrize("solver", ["table", "als", "ratings-quick"])
def test_pure_noise_is_completed_by_biases_unless_a_solver_was_named(solver: str) -> None:
    generator = np.random.default_rng(6)
    noise = np.where(generator.random((100, 40)) < 0.4, generator.normal(size=(100, 40)), NAN)
    chosen, named = DeepMatrixCompletion().fit(noise), DeepMatrixCompletion(solver=solver).fit(noise)
    assert chosen.solver_ == "biases" and chosen.held_out_error_ <= chosen.biases_error_
    assert named.solver_ == solver and any("not low-rank" in remark for remark in named.remarks_)
    for model in (chosen, named):
        assert np.std(model.transform(noise)[np.isnan(noise)]) < 0.5


def test_thin_rows_and_columns_are_reported_and_completed_by_biases() -> None:
    matrix, holed = planted(100, 80, 3, 0.5, 0.0, seed=7)
    holed[4] = NAN
    holed[4, :2] = matrix[4, :2]
    holed[:, 9] = NAN
    holed[6, 9] = matrix[6, 9]
    model = DeepMatrixCompletion(solver="als", rank=3, biases=False).fit(holed)
    assert model.unidentified_rows_.tolist() == [4]
    assert model.unidentified_columns_.tolist() == [9]
    observed = Entries.from_dense(holed / model._completed.scale)
    biases = fit_biases(observed)
    expected = (biases.mean + biases.rows[4] + biases.cols[20]) * model._completed.scale[20]
    assert model.predict([4], [20]) == pytest.approx(expected, rel=1e-7)
    assert model.transform(holed)[4, 20] == model.predict([4], [20])[0]


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_low_oversampling_warns() -> None:
    _, holed = planted(60, 50, 3, 0.12, 0.0, seed=8)
    with pytest.warns(CompletionWarning, match="entries per degree of freedom"):
        DeepMatrixCompletion(solver="als", rank=3).fit(holed)


def test_held_out_entries_leave_no_row_or_column_empty() -> None:
    generator = np.random.default_rng(9)
    entries = Entries.from_dense(np.where(generator.random((200, 50)) < 0.03, 1.0, NAN))
    held = hold_out(entries, 0.5, 0)
    training = entries.select(~held)
    assert ((training.row_counts > 0) == (entries.row_counts > 0)).all()
    assert ((training.col_counts > 0) == (entries.col_counts > 0)).all()
    assert 0.1 < held.mean() < 0.5


def test_a_plain_share_may_take_the_last_entry_of_a_column_and_parts_are_disjoint() -> None:
    entries = Entries.from_triplets(
        np.arange(400) % 20, np.arange(400), np.ones(400), (20, 400)
    )  # columns of one entry
    assert not hold_out(entries, 0.1, 0).any()
    parts = [hold_out(entries, 0.1, 0, part, last=True) for part in range(10)]
    np.testing.assert_array_equal(np.sum(parts, axis=0), 1)


def sparse_ratings(users: int, items: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars with effects of users and items, many of which have one."""
    generator = np.random.default_rng(17)
    places = generator.choice(
        users * items, count, replace=False, p=np.tile(p := np.arange(1, items + 1) ** -0.7, users) / p.sum() / users
    )
    rows, cols = np.divmod(places, items)
    effects = generator.normal(size=users)[rows] + 0.7 * generator.normal(size=items)[cols]
    return rows.astype(str), cols.astype(str), np.clip(np.round(3 + effects + generator.normal(size=count)), 1, 5)


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_the_error_of_ratings_is_that_of_any_entry_from_half_of_them() -> None:
    rows, cols, values = sparse_ratings(60, 800, 1_500)
    test = np.random.default_rng(18).random(1_500) < 0.2
    model = DeepMatrixCompletion(clip=(1, 5)).fit((rows[~test], cols[~test], values[~test]))
    assert len(model.held_out_columns_) == pytest.approx(0.5 * (~test).sum(), rel=0.1)
    counts = np.unique(cols[~test], return_counts=True)[1]
    assert (counts[model.held_out_columns_] == 1).any(), "items with one rating are among those to be predicted"
    low, high = model.held_out_interval_
    true = np.sqrt(np.mean((model.predict(rows[test], cols[test]) - values[test]) ** 2))
    assert low < model.held_out_error_ < high
    assert 0.9 * low < true < 1.1 * high  # which has its own error, of 300 entries


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_ratings_of_few_users_are_no_table_and_warnings_know_it() -> None:
    model = DeepMatrixCompletion().fit(sparse_ratings(40, 1_000, 700))
    remarks = [remark for remark in model.remarks_ if "not low-rank" in remark]
    assert model.solver_ in ("ratings", "biases")
    assert "'ratings'" in (model.reason_ + "".join(remarks)) or model.solver_ == "ratings"
    assert all("user_table" in remark and "IterativeImputer" not in remark for remark in remarks)


def levels_of(signal: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """A scale of five, of which this share is known."""
    levels = np.clip(np.round(3 + signal), 1, 5)
    return np.where(generator.random(signal.shape) < share, levels, NAN)


@pytest.mark.parametrize("wanted", ["ratings", "table"])
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_held_out_entries_tell_ratings_of_few_users_from_questions(wanted: str) -> None:
    generator = np.random.default_rng(21)
    m, n = (40, 60) if wanted == "ratings" else (100, 12)
    signal = generator.normal(size=(m, 2)) @ generator.normal(size=(2, n)) + 0.5 * generator.normal(size=(m, n))
    if wanted == "ratings":  # people and films have levels of their own
        signal = 0.4 * signal + 0.7 * generator.normal(size=(m, 1)) + 0.5 * generator.normal(size=n)
    holed = levels_of(signal, 0.25 if wanted == "table" else 0.12, generator)
    model = DeepMatrixCompletion(keep_empty_features=True).fit(holed)
    assert model.solver_ == wanted
    assert wanted == "table" or "explicit ratings" in model.reason_


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_what_is_said_of_means_is_in_the_unit_in_which_columns_are_judged() -> None:
    generator = np.random.default_rng(19)
    table = generator.normal(size=(100, 5))
    table[generator.random(table.shape) < 0.15] = NAN
    model = DeepMatrixCompletion().fit(table)
    remark = next(remark for remark in model.remarks_ if "not low-rank" in remark)
    values, predictions = model.held_out_entries_
    cols, scale = model.held_out_columns_, model._completed.scale
    means = np.nanmean(table, axis=0)[cols]
    n = np.sum(~np.isnan(table), axis=0)[cols]
    ratio = np.sqrt(
        np.mean(((values - predictions) / scale[cols]) ** 2)
        / np.mean(((values - means) * n / (n - 1) / scale[cols]) ** 2)
    )
    assert model.solver_ == "biases"
    assert f"that of row and column means {ratio:.2f} times." in remark and "that of column means, and" in remark


def test_biases_are_shrunk_by_their_signal_to_noise_ratio() -> None:
    generator = np.random.default_rng(10)
    rows, cols = 0.5 * generator.normal(size=400), 2.0 * generator.normal(size=100)
    matrix = 10 + rows[:, None] + cols + generator.normal(size=(400, 100))
    biases = fit_biases(Entries.from_dense(np.where(generator.random((400, 100)) < 0.2, matrix, NAN)))
    assert biases.converged
    assert biases.noise == pytest.approx(1.0, rel=0.05)
    assert biases.row_damping == pytest.approx(1.0 / 0.25, rel=0.3)
    assert np.corrcoef(biases.rows, rows)[0, 1] > 0.85
    np.testing.assert_allclose(biases.cols - biases.cols.mean(), cols - cols.mean(), atol=0.5)


def test_biases_of_few_entries_know_the_noise() -> None:
    generator = np.random.default_rng(13)
    places = generator.choice(
        2_000 * 1_000, 10_000, replace=False
    )  # 5 and 10 for each effect, which take a third of the freedom
    rows, cols = np.divmod(places, 1_000)
    values = 0.5 * generator.normal(size=2_000)[rows] + 0.5 * generator.normal(size=1_000)[cols]
    biases = fit_biases(Entries.from_triplets(rows, cols, values + generator.normal(size=10_000), (2_000, 1_000)))
    assert biases.noise == pytest.approx(1.0, rel=0.03)
    assert biases.row_damping == pytest.approx(1.0 / 0.25, rel=0.2)


def test_biases_of_a_table_without_them_are_none() -> None:
    noise = np.random.default_rng(14).normal(size=(100, 80))
    noise += noise.mean() - noise.mean(0) - noise.mean(1)[:, None]
    biases = fit_biases(Entries.from_dense(noise))
    assert np.isinf(biases.row_damping) and biases.converged
    assert not biases.rows.any() and not biases.cols.any()
    assert biases.predict(np.array([0]), np.array([0])) == pytest.approx(noise.mean())


def test_biases_do_not_depend_on_where_their_fit_began() -> None:
    generator = np.random.default_rng(15)
    _, holed = planted(200, 60, 2, 0.3, 0.5, seed=15)
    entries = Entries.from_dense(holed + generator.normal(size=(200, 1)))
    begun = fit_biases(entries, start=fit_biases(entries.select(~hold_out(entries, 0.1, 0))))
    np.testing.assert_allclose(begun.rows, fit_biases(entries).rows, atol=1e-7)  # of effects of size 1


@pytest.mark.parametrize("rows", [0.0, 2.0])
@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_biases_left_out_are_those_of_a_fit_without_the_entry(shape: tuple[int, int], rows: float) -> None:
    generator = np.random.default_rng(16)
    matrix = (
        generator.normal(size=shape) + rows * generator.normal(size=(shape[0], 1)) + generator.normal(size=shape[1])
    )
    entries = Entries.from_dense(np.where(generator.random(shape) < 0.4, NAN, matrix))
    biases = fit_biases(entries)
    m, n, every = *shape, np.arange(entries.size)
    design = np.zeros((entries.size, 1 + m + n))
    design[:, 0] = design[every, 1 + entries.rows] = design[every, 1 + m + entries.cols] = 1
    ridge = np.diag(np.clip(np.repeat([0.0, biases.row_damping, biases.col_damping], [1, m, n]), 0, 1e12))
    naive = []
    for left in every:
        others = design[every != left]
        effects = np.linalg.solve(others.T @ others + ridge, others.T @ entries.values[every != left])
        naive.append(design[left] @ effects)
    checked = every % 3 != 0
    np.testing.assert_allclose(left_out_biases(entries, checked).predictions, np.array(naive)[checked], atol=1e-6)


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_a_decision_by_few_cells_is_the_same_for_every_seed() -> None:
    generator = np.random.default_rng(17)
    matrix = np.arange(16)[:, None] + generator.normal(size=(16, 7))  # nearly collinear, as years of one country
    holed = np.where(generator.random(matrix.shape) < 0.5, NAN, matrix)
    models = [DeepMatrixCompletion(random_state=seed).fit(holed) for seed in range(6)]
    assert len({model.solver_ for model in models}) == 1
    assert len({model.biases_error_ for model in models}) == 1


def blocks(rows: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    """Stretches of rows in one or two columns beside each other, till 30 % are missing."""
    missing = np.zeros((rows, columns), bool)
    while missing.mean() < 0.3:
        top, left = generator.integers(rows), generator.integers(columns)
        missing[top : top + generator.integers(2, rows // 8), left : left + generator.integers(1, 3)] = True
    return missing


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_stretches_that_are_too_few_to_say_do_not_give_a_table_to_its_means() -> None:
    generator = np.random.default_rng(18)
    chain = generator.normal(size=(60, 8))
    for column in range(1, 8):
        chain[:, column] = 0.8 * chain[:, column - 1] + 0.6 * chain[:, column]
    models = [
        DeepMatrixCompletion().fit(np.where(blocks(60, 8, np.random.default_rng(seed)), NAN, chain))
        for seed in range(4)
    ]
    assert {model.solver_ for model in models} == {"table"}
    assert any("single cells say so" in model.reason_ for model in models)
    levels = generator.normal(size=(60, 1)) + generator.normal(size=(60, 8))
    assert DeepMatrixCompletion().fit(np.where(blocks(60, 8, generator), NAN, levels)).solver_ == "biases"


def test_means_are_judged_on_the_parts_that_the_solver_lacked() -> None:
    generator = np.random.default_rng(19)
    entries = Entries.from_dense(np.where(generator.random((40, 6)) < 0.3, NAN, generator.normal(size=(40, 6))))
    draws = generator.random(entries.size)
    parts, checked = (draws < 0.2, (draws > 0.1) & (draws < 0.4)), draws < 0.3
    found = HeldOut.by_parts(
        entries, checked, parts, lambda part: HeldOut.of(fit_biases(entries.select(~part)), entries, part)
    )
    later = HeldOut.of(fit_biases(entries.select(~parts[1])), entries, parts[1])
    np.testing.assert_array_equal(found.values, entries.values[checked])
    np.testing.assert_array_equal(found.predictions[parts[1][checked]], later.predictions[draws[parts[1]] < 0.3])


def test_column_scale() -> None:
    entries = Entries.from_dense([[1.0, 5.0, 0.1, NAN], [3.0, 5.0, 0.1 + 1e-17, 7.0], [5.0, 5.0, 0.1, NAN]])
    scale = entries.column_scale(each=True)
    overall = np.std(entries.values)
    np.testing.assert_allclose(scale, [np.std([1, 3, 5]), overall, overall, overall])
    np.testing.assert_allclose(entries.column_scale(each=False), overall)
    np.testing.assert_allclose(Entries.from_dense([[4.0, 4.0]]).column_scale(each=True), 4.0)
    np.testing.assert_allclose(Entries.from_dense([[0.0, 0.0]]).column_scale(each=True), 1.0)


@pytest.mark.parametrize("solver", ["als", "exact"])
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_without_a_check_biases_are_used_and_it_is_said(solver: str) -> None:
    column = np.random.default_rng(11).normal(size=(30, 1))  # each entry is the only one of its row
    model = DeepMatrixCompletion(solver=solver).fit(column)
    assert any("No entry could be held out" in remark for remark in model.remarks_)
    assert (model.solver_, model.rank_) == ("biases", 0)
    assert "held out" in model.reason_
    assert np.isnan(model.held_out_ratio_)


@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_a_small_matrix_is_checked_with_further_tenths() -> None:
    matrix = np.outer([1.0, 2.0, 4.0], [1.0, -1.0, 3.0])
    seed = next(seed for seed in range(99) if not hold_out(Entries.from_dense(matrix), 0.1, seed).any())
    model = DeepMatrixCompletion(solver="als", random_state=seed).fit(matrix)
    assert np.isfinite(model.held_out_ratio_)


def test_an_exact_answer_gives_its_residual_as_reason() -> None:
    _, holed = planted(120, 100, 2, 0.06, 0.0, seed=2)
    model = DeepMatrixCompletion(max_rank=5).fit(holed)
    assert model.sure_ is True
    assert "at rank 2: relative residual " in model.reason_
    _, holed = planted(80, 60, 2, 0.4, 0.0, seed=5)
    assert "at rank 2: relative residual " in DeepMatrixCompletion(solver="gd", rank=2).fit(holed).reason_


@pytest.mark.parametrize(
    ("solver", "arguments", "warned"),
    [
        ("table", {"depth": 4, "max_iter": 50}, ["depth=4"]),
        ("table", {"tol": 1e-3, "biases": True}, ["tol=0.001", "biases=True"]),
        ("als", {"depth": 2, "max_iter": 50, "tol": 1e-3, "biases": True}, []),
        ("exact", {"depth": 4, "max_iter": 50, "tol": 1e-3, "biases": False}, ["max_iter=50", "tol=0.001"]),
        ("gd", {"biases": True}, ["biases=True"]),
        ("ratings-quick", {"biases": False}, ["biases=False"]),
        ("ratings-quick", {"biases": True}, []),
    ],
)
@pytest.mark.filterwarnings("ignore::lowdim.completion.CompletionWarning")
def test_an_argument_that_the_solver_does_not_read_is_said(solver: str, arguments: dict, warned: list[str]) -> None:
    _, holed = planted(60, 40, 2, 0.5, 0.0, seed=12)
    remarks = DeepMatrixCompletion(solver=solver, rank=2, **arguments).fit(holed).remarks_
    assert [remark.split()[0] for remark in remarks if "has no effect" in remark] == warned
