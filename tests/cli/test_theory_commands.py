"""lowdim check and lowdim reproduce, as typed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lowdim._verdicts import Verdict
from lowdim.cli.check import check
from lowdim.cli.reproduce import named_by_environment, reproduce
from lowdim.experiments import Outcome, _runner, load
from lowdim.experiments._runner import Finished
from lowdim.figures import Lines
from lowdim.report import _page
from runner import typed as lowdim


def write_history(folder, optimizer):
    """Weights of a plain training loop that shares no code with the package."""
    folder.mkdir()
    random = np.random.default_rng(7)
    weights = [0.8 * np.linalg.svd(random.standard_normal((24, 24)))[0] for _ in range(3)]
    target = random.standard_normal((24, 2)) @ random.standard_normal((2, 24)) / 24
    mean, square = [0.0] * 3, [0.0] * 3
    for t in range(121):
        if t % 40 == 0:
            save_file({str(i): w for i, w in enumerate(weights, 1)}, folder / f"{t}.safetensors")
        a, b, c = weights
        error = c @ b @ a - target
        slopes = [b.T @ c.T @ error, c.T @ error @ a.T, error @ a.T @ b.T]
        if optimizer == "sgd":
            weights = [w - 3e-3 * g for w, g in zip(weights, slopes, strict=True)]
            continue
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, slopes, strict=True)]
        square = [0.999 * s + 0.001 * g * g for s, g in zip(square, slopes, strict=True)]
        weights = [
            w - 3e-3 * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(s / (1 - 0.999 ** (t + 1))) + 1e-8)
            for w, m, s in zip(weights, mean, square, strict=True)
        ]
    np.savez(folder / "data.npz", x=np.eye(24), y=target)
    return folder


@pytest.mark.parametrize("turned", [False, True])
def test_transposed_weights_are_told(tmp_path, turned):
    folder = write_history(tmp_path / "plain", "sgd")
    steps = [load_file(folder / f"{t}.safetensors") for t in (0, 40, 80, 120)]
    states = [[step[name].T if turned else step[name] for name in "123"] for step in steps]
    result = check(states, "parsimony")
    assert result["holds"] is not turned
    assert any("look transposed" in warning for warning in result["warnings"]) == turned


def test_check_holds_for_plain_descent_and_not_for_adam(tmp_path):
    plain = write_history(tmp_path / "plain", "sgd")
    good = lowdim("check", plain, "--theorem", "parsimony", "--data", plain / "data.npz", "--json")
    assert good.returncode == 0, good.stderr
    result = json.loads(good.stdout)
    assert (result["schema_version"], result["command"], result["holds"]) == (1, "check", True)
    assert all(set(check) == {"name", "holds", "residual", "tolerance", "reason"} for check in result["checks"])
    assert result["shares"]["steps"] == ["0", "40", "80", "120"]
    assert min(result["shares"]["share"][-1]) > 1 - 1e-12
    adam = write_history(tmp_path / "adam", "adam")
    bad = lowdim("check", adam, "--theorem", "parsimony")
    assert bad.returncode == 4
    assert "The law of parsimony does not hold on these weights" in bad.stdout
    assert "Adam" in bad.stdout
    assert "by chance" in bad.stdout


def test_check_says_undecided_for_coarse_numbers(tmp_path):
    plain = write_history(tmp_path / "plain", "sgd")
    for file in plain.glob("*.safetensors"):
        save_file({name: weight.astype(np.float16) for name, weight in load_file(file).items()}, file)
    done = lowdim("check", plain, "--theorem", "parsimony", "--data", plain / "data.npz")
    assert done.returncode == 4
    assert "undecided" in done.stdout and "does not hold" not in done.stdout
    assert "precision" in done.stdout
    assert json.loads(lowdim("check", plain, "--theorem", "parsimony", "--json").stdout)["holds"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "--theorem", "parsimony"], 3, "is not a folder"),
        (["plain", "--theorem", "separation"], 2, "--data FILE.npz"),
        (["plain", "--theorem", "parsimony", "--rank", "12"], 2, "no invariant part"),
        (["plain", "--theorem", "parsimony", "--weights", "1,4"], 3, "no tensor '4'"),
        (["plain", "--theorem", "separation", "--data", "plain/data.npz"], 3, "y must hold classes"),
        (["plain", "--theorem", "parsimony", "--data", "plain/120.safetensors"], 3, "cannot be read as an .npz file"),
        (["plain", "--theorem", "separation", "--rank", "2", "--data", "plain/data.npz"], 2, "--rank belongs"),
    ],
)
def test_check_names_what_is_wrong(tmp_path, arguments, code, message):
    write_history(tmp_path / "plain", "sgd")
    done = lowdim("check", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_reproduce_writes_a_page_and_continues(tmp_path):
    arguments = ("reproduce", "separation-scale", "parsimony-svd", "--out", tmp_path / "run", "--json")
    first = lowdim(*arguments)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert (result["passed"], result["failed"]) == (2, 0)
    assert [entry["id"] for entry in result["experiments"]] == ["separation-scale", "parsimony-svd"], "as asked"
    for entry in result["experiments"]:
        assert {"id", "section", "title", "seconds", "figures", "verdicts"} <= set(entry)
        assert all((tmp_path / "run" / path).is_file() for path in entry["figures"])
        assert all({"name", "value", "relation", "threshold", "holds"} <= set(v) for v in entry["verdicts"])
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    again = lowdim(*arguments)
    assert json.loads(again.stdout) == result
    part = lowdim("reproduce", "separation-scale", "--out", tmp_path / "run", "--json")
    assert part.returncode == 0, part.stderr
    assert [entry["id"] for entry in json.loads(part.stdout)["experiments"]] == ["separation-scale"]
    other = lowdim("reproduce", "separation-scale", "--set", "seed=1", "--out", tmp_path / "run")
    assert other.returncode == 2
    assert "other settings" in other.stderr


def test_an_interruption_waits_for_no_drawing(tmp_path, monkeypatch):
    """The page of what is finished is there, and its figures were drawn when they came, each once."""
    drawn, stopped = [], []
    monkeypatch.setattr(_page, "to_svg", lambda figure: drawn.append(bool(stopped)) or "<svg/>")
    plot = [Lines(name="f", title=name, x_label="x", y_label="y", series=[]) for name in "abc"]
    outcomes = [
        Finished(id, "done", 1.0, Outcome(verdicts=[Verdict("v", 0.0, "<=", 1.0, True)], figures=[one]))
        for id, one in zip(("parsimony-svd", "separation-scale", "separation-depth"), plot, strict=True)
    ]

    def experiments(*arguments, **more):
        yield from outcomes
        stopped.append(True)
        raise KeyboardInterrupt

    monkeypatch.setattr(_runner, "run_experiments", experiments)
    ids = [*(one.id for one in outcomes), "separation-theorem"]
    with pytest.raises(KeyboardInterrupt):
        reproduce(ids, out=tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    assert drawn == [False] * 3 and all(f'id="{one.id}"' in page for one in outcomes)
    assert 'id="separation-theorem"' not in page


def test_a_failed_verdict_exits_4_and_an_error_hides_nothing(tmp_path):
    # After two iterations Adam has not yet broken the block form, which the verdict expects of it.
    arguments = ("reproduce", "parsimony-optimizers", "--set", "iterations=2", "--json")
    done = lowdim(*arguments, "--out", tmp_path / "a")
    assert done.returncode == 4, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == 1
    assert lowdim(*arguments, "--out", tmp_path / "a").returncode == 4  # also when read back
    mixed = lowdim(
        "reproduce", "parsimony-svd", "parsimony-momentum", "--set", "weight_decay=1e300", "--out", tmp_path / "b", "--json"
    )  # fmt: skip
    assert mixed.returncode == 3  # of the error
    result = json.loads(mixed.stdout)
    assert (result["passed"], result["failed"], result["errors"]) == (1, 0, 1)
    entries = {entry["id"]: entry for entry in result["experiments"]}
    assert entries["parsimony-momentum"]["status"] == "error"
    assert "diverged" in entries["parsimony-momentum"]["message"]
    assert entries["parsimony-svd"]["passed"]
    assert "It failed" in (tmp_path / "b" / "report.html").read_text()


def test_a_setting_out_of_range_is_refused_before_anything_runs(tmp_path):
    done = lowdim("reproduce", "parsimony-svd", "--set", "rank=99", "--out", tmp_path / "a")
    assert (done.returncode, done.stdout) == (2, "")
    assert "rank must be at most 14 at width 30, not 99" in done.stderr
    assert not (tmp_path / "a").exists()


def test_the_command_of_a_page_names_the_folder_that_the_environment_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LOWDIM_DATA", str(tmp_path))
    settings = load("collapse-and-transfer").settings()
    assert named_by_environment(settings, ["seed=1"]) == [f"data={tmp_path}"]
    assert named_by_environment(settings, ["data=elsewhere"]) == []
    assert named_by_environment(load("parsimony-svd").settings(), []) == []
    monkeypatch.delenv("LOWDIM_DATA")
    assert named_by_environment(load("collapse-and-transfer").settings(), []) == []


def test_reproduce_lists_and_names_mistakes():
    listed = json.loads(lowdim("reproduce", "--list", "--json").stdout)["experiments"]
    assert "separation-theorem" in [entry["id"] for entry in listed]
    assert all(entry["lecture"] for entry in listed)
    typo = lowdim("reproduce", "separation-scal")
    assert typo.returncode == 2
    assert "Did you mean separation-scale" in typo.stderr
    assert lowdim("reproduce").returncode == 2
    assert "Did you mean eps" in lowdim("reproduce", "parsimony-svd", "--set", "epss=1").stderr


def test_neither_command_needs_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['lowdim', 'reproduce', 'separation-scale', '--jobs', '1', '--out', 'r'];"
        "sys.modules['torch'] = None;"
        "from lowdim.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write_descent(folder, inputs, start, names, *, steps=800, every=100, outputs=3, rate=2e-3):
    """Full-batch descent from given factors, as npz files; what is in the folder at the end and the targets."""
    folder.mkdir()
    random = np.random.default_rng(3)
    targets = random.standard_normal((outputs, inputs.shape[1]))
    weights = list(start)
    for step in range(steps + 1):
        if step % every == 0:
            np.savez(folder / f"{step}.npz", **dict(zip(names, weights, strict=True)))
        a, b, c = weights
        error = (c @ b @ a @ inputs - targets) @ inputs.T
        slopes = [b.T @ c.T @ error, c.T @ error @ a.T, error @ a.T @ b.T]
        weights = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
    np.savez(folder.parent / "data.npz", x_train=inputs.T, y_train=targets.T)
    return folder


def orthogonal_start(width=16, outputs=3, scale=0.5):
    random = np.random.default_rng(4)
    square = [scale * np.linalg.qr(random.standard_normal((width, width)))[0] for _ in range(3)]
    return [*square[:2], square[2][:outputs]]


NAMES = ("0.weight", "2.weight", "4.weight")


def test_inputs_that_are_not_whitened_give_one_verdict_with_and_without_the_data(tmp_path):
    inputs = np.random.default_rng(5).standard_normal((16, 40)) / 6
    folder = write_descent(tmp_path / "w", inputs, orthogonal_start(), NAMES)
    for more in ([], ["--data", tmp_path / "data.npz"]):
        found = json.loads(lowdim("check", folder, "--theorem", "parsimony", "--json", *more).stdout)
        assert found["shares"]["rank"] == 3 and found["shares"]["block"] == "law"
        worst = max(check["residual"] for check in found["checks"] if check["name"] in WITHIN)
        least = min(share for row in found["shares"]["share"][1:] for share in row)
        assert 1 - least == pytest.approx(worst**2, rel=0.3)  # the shares are what the verdict judges
        assert least < 0.99
        assert found["headline"].startswith("The law of parsimony does not hold on these weights: ")
    assert "not whitened (condition of X" in found["headline"]
    assert found["read"][0].endswith("0.weight 16 x 16, 2.weight 16 x 16, 4.weight 3 x 16")
    assert "40 samples of 16 inputs (as rows)" in found["read"][1]


WITHIN = ("invariant subspaces", "one scalar on the invariant part")


def test_another_initialisation_still_says_what_holds(tmp_path):
    random = np.random.default_rng(6)
    start = [random.uniform(-0.25, 0.25, (rows, 16)) for rows in (16, 16, 3)]
    inputs = np.linalg.qr(random.standard_normal((16, 16)))[0]
    folder = write_descent(tmp_path / "w", inputs, start, NAMES, rate=2e-2)
    done = lowdim("check", folder, "--theorem", "parsimony")
    assert done.returncode == 4
    text = " ".join(done.stdout.split())
    assert text.count("not a scaled orthogonal matrix") == 1
    assert "the 6 directions on each side that changed most (2r, r = 3) hold at least" in text
    found = json.loads(lowdim("check", folder, "--theorem", "parsimony", "--json").stdout)["shares"]
    assert found["block"] == "best"
    change = np.load(folder / "800.npz")["0.weight"] - start[0]
    values = np.linalg.svd(change, compute_uv=False) ** 2
    assert found["share"][-1][0] == pytest.approx(values[:6].sum() / values.sum())
    assert 0.6 < found["chance"][0] < found["share"][-1][0] and found["share"][-1][2] is None


def test_times_shown_are_equally_far_apart_and_called_once(tmp_path):
    inputs = np.linalg.qr(np.random.default_rng(7).standard_normal((16, 16)))[0]
    folder = write_descent(tmp_path / "w", inputs, orthogonal_start(), NAMES, steps=1000)
    for file in folder.iterdir():
        file.rename(folder / f"step{file.name}")
    done = lowdim("check", folder, "--theorem", "parsimony")
    assert done.returncode == 0, done.stdout
    header = next(line for line in done.stdout.splitlines() if line.startswith("factor"))
    assert header.split()[3:] == ["step200", "step400", "step600", "step800", "step1000"]
    assert "step step" not in done.stdout


def square(side, *, named=("x", "y"), steps=40, every=1, noise=0.0):
    """States of a descent on square data, and the data with samples as rows or columns."""
    random = np.random.default_rng(8)
    x = np.linalg.qr(random.standard_normal((12, 12)))[0]
    y = random.standard_normal((12, 2)) @ random.standard_normal((2, 12)) / 6
    weights = [0.6 * np.linalg.qr(random.standard_normal((12, 12)))[0] for _ in range(3)]
    states = []
    for step in range(steps + 1):
        if step % every == 0:
            states.append(weights)
        a, b, c = weights
        error = (c @ b @ a @ x - y) @ x.T
        slopes = [b.T @ c.T @ error, c.T @ error @ a.T, error @ a.T @ b.T]
        weights = [
            w - 0.05 * (g + noise * random.standard_normal(g.shape)) for w, g in zip(weights, slopes, strict=True)
        ]
    return states, dict(zip(named, (x.T, y.T) if side == "rows" else (x, y), strict=True))


@pytest.mark.parametrize(
    ("side", "named", "more", "why"),
    [
        ("rows", ("x", "y"), {}, "the first recorded steps are gradient descent on these"),
        ("columns", ("x_train", "y_train"), {}, "the first recorded steps are gradient descent on these"),
        ("rows", ("x", "y"), {"every": 20}, "the theorem holds with these"),
        ("rows", ("x", "y"), {"noise": 0.05}, "training fits these better"),
        ("rows", ("x", "y"), {"noise": 0.01, "steps": 2}, "the first recorded change goes down their loss"),
    ],
)
def test_samples_of_square_data_are_those_that_the_weights_were_trained_on(tmp_path, side, named, more, why):
    states, arrays = square(side, named=named, **more)
    np.savez(tmp_path / "data.npz", **arrays)
    found = check(states, "parsimony", data=tmp_path / "data.npz")
    other = {"rows": "columns", "columns": "rows"}[side]
    assert f"samples are taken as {side}: {why}. As {other} the theorem would not hold" in found["read"][-1]
    assert found["holds"] is ("noise" not in more)
    assert not found["warnings"]
    told = check(states, "parsimony", data=tmp_path / "data.npz", samples=side)
    assert told["checks"] == found["checks"] and len(told["read"]) == 2


def test_square_data_of_which_nothing_shows_the_side_are_assumed_with_a_warning(tmp_path):
    _, arrays = square("rows")
    random = np.random.default_rng(9)
    start = orthogonal_start(width=12, outputs=12)
    np.savez(tmp_path / "data.npz", **arrays)
    states = [
        [w + t * 1e-2 * v for w, v in zip(start, random.standard_normal((3, 12, 12)), strict=True)] for t in (0, 1)
    ]
    (warning,) = check(states, "parsimony", data=tmp_path / "data.npz")["warnings"]
    assert "taken as columns, which is assumed, as nothing shows which they are" in warning
    assert "(`samples=rows` takes them so)" in warning


@pytest.mark.parametrize("given", [True, False])
def test_biases_in_the_files_are_the_first_cause_and_else_a_warning(tmp_path, given):
    """Where many iterations lie between the recorded times, nothing else shows them."""
    random = np.random.default_rng(1)
    layers, folder = orthogonal_start(width=12, outputs=12), tmp_path / "w"
    x, y = np.eye(12), random.standard_normal((12, 2)) @ random.standard_normal((2, 12)) / 6
    biases = [0.1 * random.standard_normal((12, 1)) for _ in range(3)]
    folder.mkdir()
    for step in range(101):
        if step % 50 == 0:
            tensors = {f"{2 * i}.weight": w for i, w in enumerate(layers)}
            save_file(
                tensors | {f"{2 * i}.bias": b[:, 0].copy() for i, b in enumerate(biases)},
                folder / f"{step}.safetensors",
            )
        (a, b, c), (p, q, r) = layers, biases
        first = a @ x + p
        second = b @ first + q
        error = c @ second + r - y
        pulls = [b.T @ c.T @ error, c.T @ error, error]
        layers = [w - 0.02 * pull @ seen.T for w, pull, seen in zip(layers, pulls, (x, first, second), strict=True)]
        biases = [v - 0.02 * pull.sum(1, keepdims=True) for v, pull in zip(biases, pulls, strict=True)]
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y.T)
    found = check(folder, "parsimony", data=tmp_path / "data.npz" if given else None)
    sentence = (
        "Beside the factors 0.bias, 2.bias and 4.bias change: the network has biases, which the theorem does not cover."
    )
    assert found["holds"] is not given
    assert (found["causes"], found["warnings"]) == (([sentence], []) if given else ([], [sentence]))
    states = [load_file(folder / f"{t}.safetensors") for t in (0, 50, 100)]
    assert sentence in check(states, "parsimony", data=tmp_path / "data.npz")["causes"]


def test_what_was_given_or_holds_is_neither_asked_for_nor_suspected(tmp_path):
    states, arrays = square("columns", steps=40, every=1, noise=0.3)
    for step in (0, 20, 40):
        np.savez(tmp_path / f"{step}.npz", **{f"W{i}": w for i, w in enumerate(states[step], 1)})
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/data.npz", **arrays)
    given = check(tmp_path, "parsimony", data=tmp_path / "data/data.npz", samples="columns")
    assert "the reason cannot be told" in given.headline
    assert "whitened inputs" in given.headline.split("Held: ")[1]
    assert "not whitened" not in given["causes"][0] and "`data`" not in given["causes"][0]
    alone = check(tmp_path, "parsimony")["causes"][0]
    assert "not whitened" in alone and "`data`" in alone


def separated(tmp_path, inputs, rate):
    """Full-batch descent on 3 classes of 10 samples until it fits, as rows."""
    labels, random = np.repeat(np.arange(3), 10), np.random.default_rng(2)
    weights = [0.3 * np.linalg.qr(random.standard_normal((30, 30)))[0] for _ in range(3)]
    weights[2], targets = weights[2][:3], np.eye(3)[:, labels]
    start = list(weights)
    for _ in range(1000):
        seen = [inputs]
        for w in weights:
            seen.append(w @ seen[-1])
        pull = seen.pop() - targets
        for i in (2, 1, 0):
            weights[i], pull = weights[i] - rate * pull @ seen[i].T, weights[i].T @ pull
    np.savez(tmp_path / "data.npz", x_train=inputs.T, y_train=labels)
    return check([start, weights], "separation", data=tmp_path / "data.npz")


def test_separation_says_when_only_a_premise_is_missed(tmp_path):
    inputs = np.linalg.qr(np.random.default_rng(3).standard_normal((30, 30)))[0]
    found = separated(tmp_path, inputs, 0.05)
    (missed,) = [one for one in found["checks"] if not one["holds"]]
    assert missed["name"] == "balancedness"
    assert found.headline.startswith(
        "What progressive separation claims holds on these weights, but not every premise does: balancedness "
        f"({missed['residual']:.3g}, 0.05 allowed). Large steps, momentum, weight decay or an optimizer other than"
    )


def test_separation_names_inputs_that_are_not_orthonormal_first(tmp_path):
    inputs = np.random.default_rng(3).standard_normal((30, 30)) / 8
    found = separated(tmp_path, inputs, 0.02)
    said = f"the inputs are not orthonormal (condition of X: {np.linalg.cond(inputs):.3g})"
    assert found.headline.startswith(f"Progressive separation does not hold on these weights: {said}")


def test_shares_just_below_one_stay_whole_in_the_terminal(monkeypatch):
    from lowdim.report._terminal import to_terminal
    from lowdim.report.check import check_sections

    shares = {
        "steps": [str(250 * n) for n in range(7)],
        "share": [[None], *[[1 - 1.2e-14]] * 6],
        "chance": [0.0925],
        "rank": 3,
        "block": "law",
    }
    result = {"config": {"theorem": "parsimony"}, "checks": [], "read": [], "seconds": 1.0, "shares": shares}
    table = check_sections(result)[0].tables[1]
    assert to_terminal(table, 80).splitlines()[-1].split() == ["1", "0.0925", *["1-1.2e-14"] * 6]
    narrow = to_terminal(table, 60)
    assert "not shown for want of width: step 250; step 500\n" in narrow and "1500" in narrow
