"""The monitor in training loops of one's own, of Hugging Face's Trainer and by Lightning's names of hooks."""

import types

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lowdim import CollapseMonitor, profile
from lowdim.errors import InputError


def token_batches(count=48, size=12):
    """Two classes of token ids in batches of different length, as a collator with padding gives them."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for start in range(0, count, size):
        labels = torch.arange(start, start + size) % 2
        lengths = torch.randint(3, 6 + start // size, (size,), generator=generator)
        ids = torch.randint(2, 12, (size, int(lengths.max())), generator=generator) + 12 * labels[:, None]
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        batches.append({"input_ids": ids * mask, "attention_mask": mask, "labels": labels})
    return batches


def bert(seed=0):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(vocab_size=24, max_position_embeddings=16, **sizes)
    )


def test_batches_of_several_inputs_count_as_one_set():
    network, batches = bert().eval(), token_batches()
    monitor = CollapseMonitor(iter(batches))  # may be gone through once only
    found = monitor(network, 0)
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    padded = {
        name: torch.cat([nn.functional.pad(b[name], (0, longest - b[name].shape[1])) for b in batches])
        for name in ("input_ids", "attention_mask")
    }
    labels = torch.cat([batch["labels"] for batch in batches])
    expected = profile(network, (padded, labels))
    assert [(layer.name, layer.samples) for layer in found.layers] == [(one.name, 48) for one in expected.layers]
    assert [layer.nc1 for layer in found.layers] == pytest.approx([layer.nc1 for layer in expected.layers])
    with torch.inference_mode():
        alone = torch.cat(
            [network.bert(**{k: v for k, v in b.items() if k != "labels"}).pooler_output for b in batches]
        )
    means = torch.stack([alone[labels == k].mean(0) for k in (0, 1)])
    within = sum(((alone[labels == k] - means[k]) ** 2).sum() for k in (0, 1)) / 48
    between = ((means - means.mean(0)) ** 2).sum(1).mean()
    assert found.layers[-1].separation == pytest.approx(float(within / between), rel=1e-4), "padding changes nothing"
    assert monitor(network, 1) is not None, "batches are kept"


def test_batches_without_labels_are_refused():
    with pytest.raises(InputError, match="there are input_ids, attention_mask"):
        CollapseMonitor([{k: v for k, v in b.items() if k != "labels"} for b in token_batches()])(bert(), 0)


def test_the_trainer_of_hugging_face_calls_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    network, batches = bert(), token_batches()
    rows = [
        {key: torch.nn.functional.pad(value, (0, 9 - len(value))) if value.ndim else value for key, value in zip(batch, row, strict=True)}
        for batch in batches
        for row in zip(*batch.values(), strict=True)
    ]  # fmt: skip
    monitor = CollapseMonitor(DataLoader(rows, batch_size=16), every=8, layers="classifier:input")
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=4, per_device_train_batch_size=12, learning_rate=3e-3, report_to=[], seed=0,
        logging_strategy="no", save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    transformers.Trainer(network, arguments, train_dataset=rows, callbacks=[monitor.for_trainer()]).train()
    assert [step for step, _ in monitor.history] == [0, 8, 16]
    first, last = monitor.history[0][1].layers[0].nc1, monitor.history[-1][1].layers[0].nc1
    assert last < first / 2, "the classes contract"


def test_it_has_the_hooks_that_lightning_calls():
    class Callback:
        """Stands for ``lightning.Callback``: the Trainer asks every callback for every hook."""

        def on_train_start(self, trainer, pl_module):
            raise AssertionError

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise AssertionError

        def on_train_end(self, trainer, pl_module): ...

    torch.manual_seed(0)
    x, y = torch.randn(24, 4), torch.arange(24) % 3
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    monitor = CollapseMonitor(DataLoader(TensorDataset(x, y), batch_size=5), every=2)
    callback = monitor.for_lightning(Callback)
    assert isinstance(callback, Callback)
    trainer = types.SimpleNamespace(global_step=0)
    callback.on_train_start(trainer, network)
    for index in range(4):
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, network, None, (x, y), index)
    callback.on_train_end(trainer, network)
    assert [step for step, _ in monitor.history] == [0, 2, 4]
