"""A delta as a folder for the Hugging Face hub: the two files, and a card that says what they are."""

import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lowdim._files import read_checked, write_atomic, write_checked
from lowdim._names import short_names
from lowdim.errors import InputError, UsageError, require
from lowdim.finetuning._delta import DELTA_FILES, HUB_NAME, Delta, delta_folder, read_delta
from lowdim.models import runs_code


def write_hub_folder(
    delta: Path,
    folder: Path,
    *,
    licence: str,
    run: Mapping[str, Any],
    name: str,
    usage: Callable[[str, bool], str],
) -> Delta:
    """Writes the files of a delta and its card, ``README.md``. Paths of this machine are left out of both. `usage` gives the command that
    classifies with a delta of a name, and takes whether its base must be named."""
    if name and not HUB_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not ORG/NAME.", argument="push")
    found, source = read_delta(delta), delta_folder(delta)
    folder.mkdir(parents=True, exist_ok=True)
    content, tensors = DELTA_FILES
    table = read_checked(source / content, remedy="Save the delta again.")
    base = {
        **table["base"],
        "source": _public(table["base"]["source"]),
        "name": short_names([table["base"]["name"]])[0],
    }
    write_atomic(folder / tensors, (source / tensors).read_bytes())
    write_checked(folder / content, {**table, "base": base})
    data = short_names([str(run.get("config", {}).get("data", {}).get("name", ""))])[0]
    parts = short_names([table["base"]["name"]])[0].rpartition("/")[2], data
    called = name or f"ORG/{_hub_words('-'.join(filter(None, parts)))}"
    write_atomic(folder / "README.md", card(found, licence=licence, run=run, name=called, usage=usage))
    return found


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Uploads a folder of `write_hub_folder`, as the user that ``hf auth login`` knows."""
    hub = require("huggingface_hub", "Publishing on the hub")
    api = hub.HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=name, allow_patterns=[*DELTA_FILES, "README.md"])
    except (hub.errors.HfHubHTTPError, hub.errors.LocalTokenNotFoundError, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"The hub does not take {name}: {first} The folder {folder} is complete; log in with `hf auth login` and run again."
        ) from error
    return str(address)


def _hub_words(text: str) -> str:
    """A name with what the hub takes in names.

    Example:
        >>> _hub_words("resnet18-My Photos (2)")
        'resnet18-My-Photos-2'
    """
    return re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-.")


def _public(source: Mapping[str, Any]) -> dict[str, Any]:
    """How the base is found, unless that is a path of this machine."""
    spec = str(source.get("spec", ""))
    here = is_local(spec) or source.get("weights") is not None
    return {} if here else dict(source)


def is_local(spec: str) -> bool:
    """Whether a network's name says where it lies on this machine."""
    where = spec.removeprefix("hf:").removeprefix("timm:local-dir:")
    return (
        runs_code(spec) or spec.startswith("timm:local-dir:") or Path(where).exists() or short_names([spec]) != [spec]
    )


def card(delta: Delta, *, licence: str, run: Mapping[str, Any], name: str, usage: Callable[[str, bool], str]) -> str:
    """The text of ``README.md``, with the metadata that the hub reads."""
    source = delta.base["source"]
    kind, accuracy = delta.preprocessing["kind"], delta.notes.get("accuracy", {})
    base = short_names([delta.base["name"]])[0] or "a network given in Python"
    data = short_names([str(run.get("config", {}).get("data", {}).get("name", ""))])[0]
    named = source.get("spec", "").removeprefix("hf:") if source.get("spec", "").startswith("hf:") else None
    metadata: dict[str, Any] = {
        "library_name": "lowdim",
        "license": licence,
        "tags": ["lowdim", "transfer-learning", f"method:{delta.method}"],
    }
    if named and HUB_NAME.fullmatch(named):
        metadata["base_model"] = named
    if kind in ("image", "text"):
        metadata["pipeline_tag"] = f"{kind}-classification"
    if data and accuracy.get("test") is not None:
        result = {
            "task": {"type": metadata.get("pipeline_tag", "tabular-classification")},
            "dataset": {"name": data, "type": _hub_words(data)},
            "metrics": [{"type": "accuracy", "value": round(accuracy["test"], 4), "name": "test accuracy"}],
        }
        metadata["model-index"] = [{"name": name, "results": [result]}]
    # Every JSON value is a YAML value.
    header = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in metadata.items())
    unknown = not source.get("spec") or is_local(str(source["spec"]))
    classes = ", ".join(delta.classes[:50]) + (
        f" and {len(delta.classes) - 50} more" if len(delta.classes) > 50 else ""
    )
    told = (
        "what is unlike all training samples is called unknown, and anything else"
        if delta.known
        else "whatever else it is given,"
    )
    blocks = sorted({block for plan in delta.plans for block in plan.blocks})
    trained = f", trained blocks: {', '.join(blocks)}" if blocks else ""
    return f"""---
{header}
---

# {name.rpartition("/")[2]}

A small delta for {base}: it turns that network into a classifier of {len(delta.classes)} classes. Made with
[lowdim](https://pypi.org/project/lowdim/) {version("lowdim")}, method `{delta.method}`{trained}.

## Use

```shell
pip install 'lowdim[all]'
{usage(name, unknown)}
```

```python
import lowdim

base = lowdim.load_model({json.dumps("BASE" if unknown else source["spec"])})
network = lowdim.load_delta(base.module, "hf:{name}")
```

The delta holds tensors and JSON, no code. It is applied to the base with fingerprint `{delta.base["fingerprint"][:16]}` only, and checked
against outputs that were stored with it.

## Metrics

{_metrics(accuracy, run, data)}

## Base model

{base}{"" if not unknown else " (it lay in a local file or came from code: say here where others find it)"}. Inputs: {_inputs(delta)}.

## Classes

{classes}

## Intended use and limits

Meant for {kind + "s" if kind != "features" else "feature rows"} like those it was tuned on, and for these classes only: {told}
it answers with one of them. The numbers above hold for the data named there. The terms of the base model and of the training data apply, too.
"""


def _metrics(accuracy: Mapping[str, Any], run: Mapping[str, Any], data: str) -> str:
    if accuracy.get("test") is None:
        return "Not measured on a test split."
    low, high = accuracy["interval"]
    lines = [
        f"| on the test split{f' of {data}' if data else ''} | |",
        "|---|---|",
        f"| accuracy | {accuracy['test']:.4f} (90 % interval {low:.4f} to {high:.4f}) |",
        f"| balanced accuracy | {accuracy['balanced_test']:.4f} |",
        f"| accuracy on the training split | {accuracy['train']:.4f} |",
    ]
    for one in sorted(run.get("per_class", []), key=lambda one: one["accuracy"] or 0)[:20]:
        if one["accuracy"] is not None:
            right = round(one["accuracy"] * one["samples"])
            lines.append(f"| {_cell(one['name'])} | {one['accuracy']:.4f} ({right} of {one['samples']}) |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A name that stays in its cell, and text."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", " ".join(text.split()))


def _inputs(delta: Delta) -> str:
    if delta.preprocessing["kind"] == "image" and (size := delta.preprocessing.get("image_size")):
        return f"images, {size[0]} x {size[1]} pixels"
    return {"image": "images", "text": "texts"}.get(delta.preprocessing["kind"], "feature rows")
