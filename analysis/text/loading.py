"""Load language models and tokenizers from a folder or the hub, or report in one line why this fails.

No code of a checkpoint is executed: weights are read from safetensors alone, and models or tokenizers that need code of their
own are refused.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import errors as hub
from threadpoolctl import threadpool_limits
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from analysis.files import paths
from analysis.limits import LARGEST
from arguide.files import digest

LAYERS = 10_000
DTYPES = ("auto", "float32", "bfloat16", "float16")
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")  # on which the tokens and numbers of a folder depend
OWN_CODE = "{} needs code of its own, which arguide never executes; use a model that transformers itself knows"
NO_TOKENIZER = "{} has no tokenizer that can be read; save one beside the model with tokenizer.save_pretrained"
NO_WEIGHTS = "{} has no weights in safetensors; pickled weights are not read, but model.save_pretrained converts them"


class Loaded(NamedTuple):
    """A model, its tokenizer, and the model of the unconditional branch, or None if it is the same."""

    model: Any
    tokenizer: Any
    negative: Any | None = None


@dataclass(frozen=True)
class Choice:
    """The models to load.

    Attributes:
        name: a local folder, or a name on the hub.
        negative: the model of the unconditional branch; `name` by default.
        dtype: one of `DTYPES`; auto is the one of the checkpoint.

    Raises:
        ValueError: another dtype.
    """

    name: str
    negative: str | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")

    def load(self, device: torch.device) -> Loaded:
        """Return the models on a device, and the tokenizer.

        Raises:
            ValueError: models that cannot be loaded, or vocabularies that differ.
        """
        names = [self.name] if self.negative is None else [self.name, self.negative]
        configs = [_config(name) for name in names]
        tokenizers = [read_tokenizer(name) for name in names]
        if tokenizers[0].get_vocab() != tokenizers[-1].get_vocab():
            both = f"{self.name} and {self.negative}"
            raise ValueError(f"{both} number their tokens differently; --negative-model needs the same tokenizer")
        models = [_model(name, config, self.dtype).to(device) for name, config in zip(names, configs, strict=True)]
        return Loaded(models[0], tokenizers[0], models[1] if len(models) > 1 else None)

    def identity(self) -> dict[str, str | None]:
        """Return the names and versions of the models, and the dtype, ready for JSON."""
        negative = None if self.negative is None else _identity(self.negative)
        return {"model": _identity(self.name), "negative model": negative, "dtype": self.dtype}


def find_device(name: str, *, remote: bool = False) -> torch.device:
    """Return the device with a name; a remote one need not be on this machine.

    Raises:
        ValueError: a device that torch does not know or find.
    """
    found = {"cpu": math.inf, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in found:
        raise ValueError(f"no device {name!r}; --device must be cpu, cuda, cuda:0 (and so on) or mps")
    if not remote and (device.index or 0) >= found[device.type]:
        raise ValueError(f"no device {name!r}: torch finds {found[device.type]} {device.type} devices; try --device cpu")
    return device


def silence() -> None:
    """Turn off the warnings and progress bars of transformers; the errors of this module replace them."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextmanager
def quiet_thread() -> Iterator[None]:
    """Compute in silence and on one thread: processes share the cores, and the number of threads decides the last bits."""
    silence()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _config(name: str) -> Any:
    paths.check_model(name)
    try:
        given, _ = PreTrainedConfig.get_config_dict(name)
        kind = given.get("model_type")
    except (OSError, ValueError, TypeError, AttributeError) as error:  # the last two for JSON that is no object
        raise ValueError(_unreachable(name, error)) from error
    if not (isinstance(kind, str) and kind in CONFIG_MAPPING):
        unknown = f"{name}: transformers {transformers.__version__} knows no model of type {kind!r}; a newer release may"
        raise ValueError(OWN_CODE.format(name) if "auto_map" in given else unknown)
    _check_sizes(name, given)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # values of wrong types or sizes raise errors of many types
        raise ValueError(f"{name}: config.json describes no model of type {kind} ({_last_line(error)})") from error


def _check_sizes(name: str, given: Mapping[str, Any], file: str = "config.json") -> None:
    """Refuse numbers beyond 64 bits, and more layers than `LAYERS`."""
    for key, value in given.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, Mapping):
                _check_sizes(name, number, file)
            elif isinstance(number, int) and (abs(number) > LARGEST or ("layers" in key and number > LAYERS)):
                most = f"at most {LAYERS}" if "layers" in key else "of 64 bits"
                raise ValueError(f"{name}: {key} in {file} must be {most}, got a number of {len(str(abs(number)))} digits")


def read_tokenizer(name: str) -> Any:
    """Return the tokenizer in a folder or on the hub.

    Raises:
        ValueError: no readable tokenizer, or one that needs code of its own.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a missing or malformed one raises errors of many types
        raise ValueError(OWN_CODE.format(name) if "trust_remote_code" in str(error) else NO_TOKENIZER.format(name)) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(NO_TOKENIZER.format(name))
    return tokenizer


def read_model(name: str) -> Any:
    """Return the model that `save_pretrained` wrote to a folder, whose weights are those of the model exactly.

    Raises:
        ValueError: unreadable files, or weights that are missing, misshapen or superfluous.
    """
    return _model(name, _config(name), "auto", exact=True)


def _model(name: str, config: Any, dtype: str, *, exact: bool = False) -> Any:
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if type(config) not in kind._model_mapping:
        raise ValueError(f"{name} is of type {config.model_type}, which does not generate text; try a causal language model")
    if Path(name).is_dir() and not any(Path(name).glob("*.safetensors")):
        raise ValueError(NO_WEIGHTS.format(name))
    number = dtype if dtype == "auto" else getattr(torch, dtype)
    try:
        model, info = kind.from_pretrained(
            name, config=config, dtype=number, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except OSError as error:
        offline = any(isinstance(cause, hub.LocalEntryNotFoundError) for cause in _causes(error))
        raise ValueError(_unreachable(name, error) if offline else NO_WEIGHTS.format(name)) from error
    except Exception as error:  # sizes that do not fit raise errors of many types
        raise ValueError(f"{name}: the weights cannot be read ({paths.first_line(error).rstrip('.')})") from error
    if model.generation_config is not None:
        _check_sizes(name, model.generation_config.to_dict(), "generation_config.json")
    lacking = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))
    made = type(model).__name__
    if lacking:  # transformers would use random numbers instead
        raise ValueError(f"{name}: {len(lacking)} weights of a {made} are missing or misshapen ({lacking[0]}, …)")
    if exact and info["unexpected_keys"]:
        raise ValueError(f"{name}: weights that a {made} does not have ({sorted(info['unexpected_keys'])[0]}, …)")
    return model


def _identity(name: str) -> str:
    """Return the name of a folder with a digest of the sizes and times of its files, or a hub name with its commit."""
    folder = Path(name)
    if not folder.is_dir():
        return f"{name}@{_config(name)._commit_hash}"
    files = sorted({path for pattern in FILES for path in folder.glob(pattern)})
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"{folder.resolve().name}@{digest(repr(states).encode())[:12]}"


def _unreachable(name: str, error: BaseException) -> str:
    """Return one line that says why config.json cannot be read, in place of the many lines of transformers."""
    reasons = {
        hub.HFValidationError: "is neither a local folder nor a name on the hub",
        hub.GatedRepoError: "is gated: ask for access on its page on the hub, then log in with `hf auth login`",
        hub.RepositoryNotFoundError: "is neither a local folder nor on the hub (a private model needs `hf auth login`)",
        hub.LocalEntryNotFoundError: "is no local folder, and the hub cannot be reached: go online, or download it first",
        hub.EntryNotFoundError: "is on the hub, but holds no model that transformers reads (config.json is missing)",
    }
    for kind, reason in reasons.items():
        if any(isinstance(cause, kind) for cause in _causes(error)):
            return f"{name} {reason}"
    return f"{name}: config.json cannot be read ({paths.first_line(error).rstrip('.')})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _last_line(error: BaseException) -> str:
    """Return the last line of an error; in the errors of configurations the first lines only name the check."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1].rstrip(".")
