"""Text and vision encoders of transformers, from the hub or a folder."""

import inspect
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lowdim._files import read_json
from lowdim._preprocessing import Preprocessing
from lowdim._processor import output_size, settings_of
from lowdim.errors import InputError, LowdimError, UsageError, require
from lowdim.features import Pool
from lowdim.models._hub import announce
from lowdim.models._sentence import SentenceEncoder, sentence_encoder
from lowdim.models._weights import matched, read_weights

_MAX_LENGTH = 512
_FILES = ("model.safetensors", "model.safetensors.index.json")


def load_hf(
    name: str,
    *,
    random_weights: bool,
    allow_pickle: bool,
    offline: bool,
    arguments: dict[str, Any],
    pool: Pool | None = None,
) -> tuple[nn.Module, Preprocessing, tuple[str, ...] | None, tuple[str, ...], Pool | None]:
    """An encoder, with its classifier where the checkpoint has one.

    Returns:
        The network, its preprocessing, class names where the classifier has them, notes, and how a sentence encoder pools.

    Raises:
        InputError: If the model cannot be found, or its file lacks weights.
    """
    if "trust_remote_code" in arguments:
        raise UsageError("lowdim never runs code that comes with a model of the hub; leave trust_remote_code out.")
    transformers = require("transformers", "A transformers model")
    folder = Path(name).expanduser()
    location = str(folder.resolve()) if folder.is_dir() else name
    if folder.is_dir():
        _refuse_adapter(folder)
    local = folder.is_dir() or offline or not _announce(name)
    try:
        config = transformers.AutoConfig.from_pretrained(
            location, local_files_only=local, trust_remote_code=False, **arguments
        )
        factory = _factory(transformers, config)
        if config.model_type == "clip":
            # The image side alone; its projection has the width that both sides share.
            config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
        elif (
            factory is transformers.AutoModel
            and type(getattr(config, "vision_config", None)) in transformers.MODEL_MAPPING
        ):
            # Of two networks for pictures and texts (SigLIP), the one for pictures.
            config = config.vision_config
        if random_weights:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                module, notes = _encoder(_untrained(factory, config)), ()
        else:
            module, notes = _pretrained(factory, location, config, local=local, allow_pickle=allow_pickle)
        sentences = sentence_encoder(partial(_read, transformers, location, local), pool=pool)
        preprocessing = _preprocessing(transformers, location, module, local, sentences)
    except LowdimError:
        raise
    except Exception as error:
        raise InputError(f"hf:{name} cannot be loaded: {_reason(error)}") from error
    classes = None
    if factory in (transformers.AutoModelForSequenceClassification, transformers.AutoModelForImageClassification):
        classes = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        if all(label == f"LABEL_{index}" for index, label in enumerate(classes)):
            classes = None
    if preprocessing.kind == "text" and factory is not transformers.AutoModelForSequenceClassification:
        notes, pool = (*notes, *sentences.notes), sentences.pool
    # Half precision overflows in training and rounds what is measured.
    return module.float().eval(), preprocessing, classes, notes, pool


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _refuse_adapter(folder: Path) -> None:
    """Raises an error if a folder holds an adapter and not the network that it belongs to."""
    file = folder / "adapter_config.json"
    if not file.is_file() or any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
        return
    about = read_json(file)
    about = about if isinstance(about, dict) else {}
    base = about.get("base_model_name_or_path") or "a base it does not name"
    raise InputError(
        f"{folder} holds only an adapter ({about.get('peft_type', 'PEFT')}) of {base}, not a network. Load the base, or save the "
        "two merged (PEFT's `merge_and_unload`, then `save_pretrained`) and give that folder."
    )


def _announce(name: str) -> bool:
    """Whether the network is needed; says so on stderr."""
    hub = require("huggingface_hub", "A model of the hub")
    cached = (hub.try_to_load_from_cache(name, file) for file in ("model.safetensors", "model.safetensors.index.json"))
    if any(isinstance(path, str) for path in cached):
        return False
    announce(f"{name} of the hub")
    return True


def _factory(transformers: Any, config: Any) -> Any:
    if config.model_type == "clip":
        return transformers.CLIPVisionModelWithProjection
    architectures = getattr(config, "architectures", None) or [""]
    for ending, factory in (
        ("ForSequenceClassification", transformers.AutoModelForSequenceClassification),
        ("ForImageClassification", transformers.AutoModelForImageClassification),
    ):
        if architectures[0].endswith(ending):
            return factory
    if architectures[0].endswith("EncoderModel"):
        # Saved without the half that writes, which the automatic choice would miss.
        return getattr(transformers, architectures[0], transformers.AutoModel)
    return transformers.AutoModel


def _untrained(factory: Any, config: Any) -> nn.Module:
    return factory.from_config(config, trust_remote_code=False) if hasattr(factory, "from_config") else factory(config)


def _pretrained(
    factory: Any, location: str, config: Any, *, local: bool, allow_pickle: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    # What a file lacks (an untrained pooler) is drawn at random: it must be the same network at every load.
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, info = factory.from_pretrained(
            location,
            config=config,
            local_files_only=local,
            trust_remote_code=False,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            output_loading_info=True,
        )
    kept, missing = _encoder(module), _lacking(module, info)
    notes: tuple[str, ...] = ()
    file = next((path for path in map(Path(location).joinpath, _FILES) if path.is_file()), None)
    if missing and file is not None:
        # Names that transformers does not find: of what wrapped the network, or of tied weights that the file holds once.
        weights, notes = matched(module, read_weights(file))
        if notes:
            with _quiet():
                module, info = type(module).from_pretrained(
                    None, config=config, state_dict=weights, output_loading_info=True
                )
            kept, missing = _encoder(module), _lacking(module, info)
    if missing:
        raise InputError(f"the weights of {location} lack {', '.join(missing[:3])}; is it for another architecture?")
    untrained = sorted(info["missing_keys"])
    # An encoder without a trained pooler is common, and no layer that is measured depends on it.
    untrained = [name for name in untrained if "pooler" in name]
    left = (f"not in the checkpoint, left untrained: {', '.join(untrained)}",) if untrained else ()
    return kept, (*notes, *left)


def _lacking(module: Any, info: dict[str, Any]) -> list[str]:
    """What a checkpoint should have and does not: of the half that reads where only that is wanted, and no pooler."""
    names = {id(tensor): name for name, tensor in module.state_dict(keep_vars=True).items()}
    own = {names.get(id(tensor), "") for tensor in _encoder(module).state_dict(keep_vars=True).values()}
    return sorted(name for name in info["missing_keys"] if name in own and "pooler" not in name)


def _encoder(module: Any) -> nn.Module:
    """Of a network that reads with one half and writes with the other, the half that reads; classifiers keep both."""
    name = type(module).__name__
    halves = module.config.is_encoder_decoder and not name.endswith("ForSequenceClassification")
    return module.get_encoder() if halves or name.endswith("EncoderModel") else module


@contextmanager
def _quiet() -> Generator[None]:
    """Without a progress bar, and without the list of weights that the other half of a checkpoint has left over."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _preprocessing(
    transformers: Any, location: str, module: Any, local: bool, sentences: SentenceEncoder
) -> Preprocessing:
    options = {"local_files_only": local, "trust_remote_code": False}
    reads = module.main_input_name
    if reads == "inputs":
        # A network for anything; the file says which.
        reads = (
            "input_ids" if _read(transformers, location, local, "preprocessor_config.json") is None else "pixel_values"
        )
    if reads == "pixel_values":
        processor = transformers.AutoImageProcessor.from_pretrained(location, **options)
        return image_preprocessing(processor, channels=getattr(module.config, "num_channels", 3))
    if reads != "input_ids":
        raise InputError(f"{type(module).__name__} takes {reads}; lowdim gives pictures or texts to networks.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(location, **options)
    return text_preprocessing(tokenizer, module, [sentences.max_length])


def _read(transformers: Any, location: str, local: bool, name: str) -> Any:
    """The content of a JSON file of a model; None where there is none."""
    file = transformers.utils.cached_file(
        location, name, local_files_only=local, _raise_exceptions_for_missing_entries=False
    )
    return None if file is None else read_json(Path(file))


def text_preprocessing(tokenizer: Any, module: Any, lengths: Sequence[Any] = ()) -> Preprocessing:
    """How texts become the inputs of a network of transformers.

    Raises:
        InputError: If there is no token to fill up with, or the network cannot tell it from the text.
    """
    config, rows = module.config, _vocabulary(module)
    taken = inspect.signature(module.forward).parameters
    if "attention_mask" not in taken:
        raise InputError(
            f"{type(module).__name__} takes no attention mask: what fills up a text would change its features."
        )
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    if tokenizer.pad_token_id is None or not 0 <= tokenizer.pad_token_id < rows:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(_padding(tokenizer, module, rows))
    # By it the classifiers of decoders find the last token.
    config.pad_token_id = tokenizer.pad_token_id
    # On the right a text has the positions that it has alone; but who reads the last position whatever stands there wants the left.
    tokenizer.padding_side = "left" if getattr(config, "summary_type", None) == "last" else "right"
    # Embeddings of positions that count from their padding index on have fewer than they have rows.
    positions: list[Any] = [
        child.weight.shape[0] - child.padding_idx - 1
        for name, child in module.named_modules()
        if name.endswith("position_embeddings") and getattr(child, "padding_idx", None) is not None
    ]
    said = [getattr(config, name, None) for name in ("max_position_embeddings", "max_encoder_position_embeddings")]
    bounds = (_MAX_LENGTH, tokenizer.model_max_length, *said, *positions, *lengths)
    longest = min(int(bound) for bound in bounds if isinstance(bound, int | float) and bound > 0)
    return Preprocessing(kind="text", max_length=longest, tokenizer=tokenizer)


def _vocabulary(module: Any) -> float:
    """Rows of the embedding of tokens; without bound where there is no such table."""
    try:
        return module.get_input_embeddings().weight.shape[0]
    except (NotImplementedError, AttributeError):  # so transformers says that a network has no such table
        return math.inf


def _padding(tokenizer: Any, module: Any, rows: float) -> int:
    """A token to fill up with for a tokenizer that has none: one that does not stand in texts."""
    there = set(tokenizer("a")["input_ids"])
    named = (
        getattr(module.config, "pad_token_id", None),
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        tokenizer.bos_token_id,
    )
    known = [token for token in named if isinstance(token, int) and 0 <= token < rows]
    unseen = [token for token in known if token not in there]
    # Where no classifier looks for it, the mask says all.
    candidates = unseen or ([] if type(module).__name__.endswith("ForSequenceClassification") else [*known, 0])
    if not candidates:
        raise InputError(
            f"{type(tokenizer).__name__} has no token that could fill up texts. Name one as pad_token in tokenizer_config.json."
        )
    return candidates[0]


def image_preprocessing(processor: Any, *, channels: int = 3) -> Preprocessing:
    """What an image processor of transformers does, as a `Preprocessing` that runs it.

    Raises:
        InputError: If it does not make one picture of one, or its configuration holds what its class does not know.
    """
    settings = settings_of(processor)
    channels = 1 if channels == 1 else 3
    return Preprocessing(image_size=output_size(settings, channels), channels=channels, processor=settings)


def load_text_encoder(name: str, *, allow_pickle: bool, offline: bool) -> tuple[Callable[[list[str]], Tensor], float]:
    """The text side of a CLIP checkpoint.

    Returns:
        A function from sentences to their features (``n x d``, not normalised), and the scale of the logits.

    Raises:
        InputError: If the checkpoint has no text side.
    """
    transformers = require("transformers", "A transformers model")
    folder = Path(name).expanduser()
    location = str(folder.resolve()) if folder.is_dir() else name
    local = folder.is_dir() or offline
    try:
        config = transformers.AutoConfig.from_pretrained(location, local_files_only=local, trust_remote_code=False)
        if config.model_type != "clip":
            raise InputError(f"hf:{name} is a {config.model_type} model; zero-shot needs CLIP, or `text_features`.")
        pretrained, _ = _pretrained(transformers.CLIPModel, location, config, local=local, allow_pickle=allow_pickle)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            location, local_files_only=local, trust_remote_code=False
        )
    except LowdimError:
        raise
    except Exception as error:
        raise InputError(f"The text encoder of hf:{name} cannot be loaded: {_reason(error)}") from error
    model: Any = pretrained.eval()
    longest = config.text_config.max_position_embeddings

    def encode(sentences: list[str]) -> Tensor:
        tokens = tokenizer(sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            return model.text_projection(model.text_model(**tokens).pooler_output).float()

    return encode, float(model.logit_scale.detach().exp())
