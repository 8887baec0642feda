"""lowdim publish: the folder for the hub, its card, and how it is read."""

import json
import re
import types
from typing import ClassVar

import pytest
import torch

import lowdim
from lowdim.errors import InputError, UsageError


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    lowdim.finetune("digits-split", "digits-noisy", shots=3, limit=60, method="linear-probe", out=folder)
    return folder


def header(card):
    lines = card.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def test_the_folder_has_a_card_and_loads_as_from_the_hub(tuned, monkeypatch, tmp_path):
    found = lowdim.publish(tuned / "delta", folder=tmp_path / "me" / "digits", licence="mit")
    assert sorted(found["files"]) == ["README.md", "delta.json", "delta.safetensors"]
    assert found["warnings"] == [] and found["address"] is None and "Nothing was uploaded" in found.headline
    card = (tmp_path / "me" / "digits" / "README.md").read_text()
    about = header(card)
    result = json.loads((tuned / "result.json").read_text())
    assert (about["library_name"], about["license"]) == ("lowdim", "mit")
    assert about["pipeline_tag"] == "image-classification"
    (metric,) = about["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == pytest.approx(result["accuracy"]["test"], abs=1e-4)
    assert about["model-index"][0]["results"][0]["dataset"]["name"] == "digits-noisy"
    for heading in ("Use", "Metrics", "Base model", "Classes", "Intended use and limits"):
        assert f"\n## {heading}\n" in card
    assert str(tmp_path) not in card and "--model" not in card, "the base comes with the package"
    monkeypatch.chdir(tmp_path)
    base = lowdim.load_model("digits-split").module
    inputs = torch.linspace(0, 1, 128).reshape(2, 1, 8, 8)
    assert lowdim.load_delta(base, "hf:me/digits")(inputs).equal(lowdim.load_delta(base, tuned / "delta")(inputs))
    given = {"data": "digits-noisy", "limit": 60, "split": "test"}
    assert lowdim.predict("hf:me/digits", **given)["accuracy"] == lowdim.predict(tuned / "delta", **given)["accuracy"]


def test_paths_of_this_machine_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "nets.py").write_text(
        "import torch\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))\n"
    )
    options = {"image_size": 8, "method": "linear-probe", "shots": 3, "limit": 60}
    lowdim.finetune(f"{tmp_path}/secret/nets.py:build", "digits-noisy", **options, out="run")
    found = lowdim.publish("run/delta", folder="hub")
    assert any("licence" in warning for warning in found["warnings"])
    for file in ("delta.json", "README.md"):
        assert "secret" not in (tmp_path / "hub" / file).read_text()
    assert "--model BASE" in (tmp_path / "hub" / "README.md").read_text()
    with pytest.raises(InputError, match="where to find its base"):
        lowdim.predict("hf:hub", "digits-noisy", limit=60)
    model = f"{tmp_path}/secret/nets.py:build"
    assert len(lowdim.predict("hf:hub", "digits-noisy", limit=60, split="test", model=model)["predictions"]) > 0


class Hub:
    """Stands for the hub: notes what is sent."""

    sent: ClassVar[list] = []

    def create_repo(self, name, private, exist_ok):
        self.sent.append((name, private))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, folder_path, repo_id, allow_patterns):
        self.sent.append((repo_id, sorted(allow_patterns)))


def test_only_push_sends(tuned, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "HfApi", Hub)
    lowdim.publish(tuned / "delta", folder=tmp_path / "a")
    assert Hub.sent == []
    found = lowdim.publish(tuned / "delta", folder=tmp_path / "b", push="me/digits", private=True)
    assert found["address"] == "https://huggingface.co/me/digits"
    assert Hub.sent == [("me/digits", True), ("me/digits", ["README.md", "delta.json", "delta.safetensors"])]
    assert "hf:me/digits" in (tmp_path / "b" / "README.md").read_text()


def test_a_hub_that_refuses_is_one_line(tuned, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*args, **options):
        raise hub.errors.LocalTokenNotFoundError("Token is required.\nRun something.")

    monkeypatch.setattr(hub, "HfApi", lambda: types.SimpleNamespace(create_repo=refuse))
    with pytest.raises(InputError, match=re.escape("log in with `hf auth login`")) as error:
        lowdim.publish(tuned / "delta", folder=tmp_path / "a", push="me/digits")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"push": "no name"}, "is not ORG/NAME"), ({"private": True}, "`private` goes with `push")],
)
def test_mistakes_are_told_before_anything_is_written(tuned, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        lowdim.publish(tuned / "delta", folder=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_what_is_no_delta_is_refused(tmp_path):
    base = lowdim.load_model("digits-split").module
    with pytest.raises(InputError, match="is neither a folder nor hf:ORG/NAME"):
        lowdim.load_delta(base, "hf:nothing")
    with pytest.raises(InputError, match=r"delta\.json is missing"):
        lowdim.publish(tmp_path, folder=tmp_path / "hub")


def test_the_run_folder_stands_for_the_delta_in_it(tuned):
    """Files go into the run folder, the card has the run's metrics, and the page weighs the delta alone."""
    found = lowdim.publish(tuned, licence="mit")
    assert found["path"] == str(tuned.resolve() / "hub")
    (metric,) = header((tuned / "hub" / "README.md").read_text())["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == pytest.approx(
        json.loads((tuned / "result.json").read_text())["accuracy"]["test"], abs=1e-4
    )
    exported = lowdim.export(tuned, "checkpoint")
    assert exported["path"] == str(tuned.resolve() / "model.safetensors")
    rows = dict(exported.page.sections[0].tables[0].rows)
    size = sum((tuned / "delta" / name).stat().st_size for name in ("delta.json", "delta.safetensors"))
    assert rows["bytes of the delta, which needs the base network beside it"] == size


def test_a_delta_of_the_hub_is_exported_into_the_current_folder(tuned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported = lowdim.export(f"hf:{tuned / 'delta'}", "checkpoint")
    assert exported["path"] == "model.safetensors" and (tmp_path / "model.safetensors").is_file()
