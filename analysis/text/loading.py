"""Language models and tokenizers from a folder or the hub, or one line that says why not.

Nothing that a checkpoint brings along is executed: weights are read from safetensors alone, and models or tokenizers that need
code of their own are refused.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import errors as hub
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from analysis.limits import LARGEST

LAYERS = 10_000
DTYPES = ("auto", "float32", "bfloat16", "float16")
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")  # what a folder's tokens and numbers come from


class Loaded(NamedTuple):
    """A model, its tokenizer, and the model of the unconditional branch where that is another."""

    model: Any
    tokenizer: Any
    negative: Any | None = None


@dataclass(frozen=True)
class Choice:
    """Which models to load, and how.

    Attributes:
        name: a local folder, or a name on the hub.
        negative: the same for the model of the unconditional branch; `name` by default.
        dtype: one of `DTYPES`; auto is the checkpoint's own.

    Raises:
        ValueError: another dtype.
    """

    name: str
    negative: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")

    def load(self, device: torch.device) -> Loaded:
        """Return the models on a device, and the tokenizer.

        Raises:
            ValueError: what cannot be loaded, or vocabularies that differ.
        """
        names = [self.name] if self.negative is None else [self.name, self.negative]
        configs = [_config(name) for name in names]
        tokenizers = [read_tokenizer(name) for name in names]
        if tokenizers[0].get_vocab() != tokenizers[-1].get_vocab():
            raise ValueError(
                f"{self.name} and {self.negative} number their tokens differently; --negative-model needs the same tokenizer"
            )
        models = [_model(name, config, self.dtype).to(device) for name, config in zip(names, configs, strict=True)]
        return Loaded(models[0], tokenizers[0], models[1] if len(models) > 1 else None)

    def identity(self) -> dict[str, str | None]:
        """Return what tells these models from others, and from other versions of themselves."""
        negative = None if self.negative is None else _identity(self.negative)
        return {"model": _identity(self.name), "negative model": negative, "dtype": self.dtype}


def find_device(name: str) -> torch.device:
    """Return a device by its name.

    Raises:
        ValueError: a device that is not known, or not here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"no device {name!r}; --device takes cpu, cuda, cuda:0 (and so on) or mps")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"no device {name!r}: torch finds {count} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("no device 'mps': torch finds none here")
    return device


def silence() -> None:
    """Keep the warnings and progress bars of transformers off the terminal; errors here are our own."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _config(name: str) -> Any:
    path = Path(name)
    if path.exists() and not (path / "config.json").is_file():
        raise ValueError(f"{name} holds no model: a folder with config.json is needed, as save_pretrained writes it")
    try:
        given, _ = PreTrainedConfig.get_config_dict(name)
        kind = given.get("model_type")
    except (OSError, ValueError, TypeError, AttributeError) as error:  # JSON that is no object raises the last two
        raise ValueError(_unreachable(name, error)) from error
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    if not known and "auto_map" in given:
        raise ValueError(_own_code(name))
    if not known:
        raise ValueError(f"{name}: transformers {transformers.__version__} knows no model of type {kind!r}; a newer one may")
    _check_sizes(name, given)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # values of wrong types or sizes raise errors of many types
        raise ValueError(f"{name}: config.json describes no model of type {kind} ({_last_line(error)})") from error


def _check_sizes(name: str, given: Mapping[str, Any], file: str = "config.json") -> None:
    """Refuse numbers beyond 64 bits, and more layers than could be built.

    Raises:
        ValueError: such a number.
    """
    for key, value in given.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, Mapping):
                _check_sizes(name, number, file)
            elif isinstance(number, int) and (abs(number) > LARGEST or ("layers" in key and number > LAYERS)):
                most = f"at most {LAYERS}" if "layers" in key else "of 64 bits"
                raise ValueError(f"{name}: {key} in {file} must be {most}, got a number of {len(str(abs(number)))} digits")


def read_tokenizer(name: str) -> Any:
    """Return the tokenizer of a folder, or of a name on the hub.

    Raises:
        ValueError: no tokenizer that can be read, or one that needs code of its own.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a missing or malformed one raises errors of many types
        if "trust_remote_code" in str(error):
            raise ValueError(_own_code(name)) from error
        raise ValueError(_no_tokenizer(name)) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(_no_tokenizer(name))
    return tokenizer


def read_model(name: str) -> Any:
    """Return a model that `save_pretrained` has written to a folder: its weights, all of them, and none besides.

    Raises:
        ValueError: files that cannot be read, weights that are missing, misshapen, or of no such model.
    """
    return _model(name, _config(name), "auto", exact=True)


def _model(name: str, config: Any, dtype: str, *, exact: bool = False) -> Any:
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if type(config) not in kind._model_mapping:
        raise ValueError(f"{name} is of type {config.model_type}, which does not generate text from text")
    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise ValueError(_no_weights(name))
    number = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        model, info = kind.from_pretrained(
            name, config=config, dtype=number, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except OSError as error:
        found = next(_causes(error, hub.LocalEntryNotFoundError), None)
        raise ValueError(_no_weights(name) if found is None else _unreachable(name, error)) from error
    except Exception as error:  # sizes that do not fit raise errors of many types
        raise ValueError(f"{name}: the weights cannot be read ({_first_line(error)})") from error
    if model.generation_config is not None:
        _check_sizes(name, model.generation_config.to_dict(), "generation_config.json")
    lacking = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
    if lacking:  # transformers would go on with random numbers in their place
        raise ValueError(
            f"{name}: {len(lacking)} weights of a {type(model).__name__} are missing or misshapen ({lacking[0]}, …)"
        )
    if exact and info["unexpected_keys"]:
        raise ValueError(f"{name}: weights that are none of a {type(model).__name__} ({sorted(info['unexpected_keys'])[0]}, …)")
    return model


def _identity(name: str) -> str:
    """Return a folder's name with a digest of its files' sizes and times, or a hub name with its commit."""
    folder = Path(name)
    if not folder.is_dir():
        return f"{name}@{_config(name)._commit_hash}"
    files = sorted({path for pattern in FILES for path in folder.glob(pattern)})
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{folder.resolve().name}@{hashlib.sha256(repr(states).encode()).hexdigest()[:12]}"


def _unreachable(name: str, error: BaseException) -> str:
    """Return one line in the place of the several that transformers writes when it finds no config.json."""
    reasons = {
        hub.HFValidationError: "is neither a folder here nor a name on the hub",
        hub.GatedRepoError: "is gated: ask for access on its page on the hub, then log in with `hf auth login`",
        hub.RepositoryNotFoundError: "is neither a folder here nor on the hub (a private model needs `hf auth login`)",
        hub.LocalEntryNotFoundError: "is no folder here, and the hub cannot be reached: go online, or download it first",
        hub.EntryNotFoundError: "is on the hub, but holds no model that transformers reads (config.json is missing)",
    }
    for kind, reason in reasons.items():
        if any(_causes(error, kind)):
            return f"{name} {reason}"
    return f"{name}: config.json cannot be read ({_first_line(error)})"


def _causes(error: BaseException | None, kind: type[BaseException]) -> Iterator[BaseException]:
    while error is not None:
        if isinstance(error, kind):
            yield error
        error = error.__cause__ or error.__context__


def _own_code(name: str) -> str:
    return f"{name} needs code of its own to run, which arguide never trusts; use a model that transformers itself knows"


def _no_tokenizer(name: str) -> str:
    return f"{name} has no tokenizer that can be read; save one beside the model with tokenizer.save_pretrained"


def _no_weights(name: str) -> str:
    return f"{name} has no weights in safetensors; pickled ones are not read, but model.save_pretrained converts them"


def _last_line(error: BaseException) -> str:
    """Return the last line of an error; those of the checks of a configuration begin with the name of the check."""
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].rstrip(".")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
