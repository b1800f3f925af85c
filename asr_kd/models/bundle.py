"""Model bundles: a folder with `model.safetensors` and `model.json`, all that decoding needs to know of a network."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from asr_kd.core.arrays import read_torch_tensors, write_tensors
from asr_kd.core.cards import read_card
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_file, hash_json, read_json, write_json
from asr_kd.core.own_folders import FolderKind
from asr_kd.core.reading import file_size, parsing
from asr_kd.models.architecture import count_parameters, describe_network, restore_network

_WEIGHTS = "model.safetensors"
_CARD = "model.json"
_BUNDLE = FolderKind("bundle of a network", (_CARD, _WEIGHTS))


class ModelCard(Config):
    """The content of `model.json`."""

    format: Literal[1] = 1
    architecture: dict[str, Any]
    parameters: int = Field(gt=0)
    feature_recipe: dict[str, Any]
    feature_dim: int = Field(gt=0, description="values a frame before splicing")
    splice_left: int = Field(ge=0, description="frames of context before the current one")
    splice_right: int = Field(ge=0)
    hmm_digest: str = Field(description="identifies tree, topology and phones")
    lexicon_digest: str
    priors: list[float] = Field(description="probability of each pdf, sums to 1, none is 0")
    prior_source: str = Field(description="where the priors come from")
    provenance: dict[str, Any] = Field(description="how the network was trained")
    weights_sha256: str

    @property
    def num_pdfs(self) -> int:
        return len(self.priors)

    @property
    def digest(self) -> str:
        """Identifies the function that the network computes: architecture and weights."""
        return hash_json([self.architecture, self.weights_sha256])

    def log_priors(self) -> NDArray[np.float32]:
        """Natural logarithms of the priors, (pdfs,)."""
        return np.log(np.asarray(self.priors, np.float64)).astype(np.float32)


def alignment_priors(pdf_ids: NDArray[np.integer[Any]], num_pdfs: int) -> NDArray[np.float64]:
    """Priors from alignments: (count of the pdf + 1) / (frames + pdfs).

    Negative ids, frames without alignment, are skipped. pdf_ids (frames,) -> (pdfs,) that sum to 1.
    An id outside of the tree raises InputError.
    """
    labelled = pdf_ids[pdf_ids >= 0]
    if labelled.size and labelled.max() >= num_pdfs:
        raise InputError(f"alignment holds pdf-id {labelled.max()}, but the tree has {num_pdfs} pdfs")
    counts = np.bincount(labelled, minlength=num_pdfs) + 1.0
    return counts / counts.sum()


def save_bundle(
    folder: Path,
    model: nn.Module,
    *,
    feature_recipe: dict[str, Any],
    splice_left: int,
    splice_right: int,
    hmm_digest: str,
    lexicon_digest: str,
    priors: NDArray[np.floating[Any]],
    prior_source: str = "alignment counts + 1",
    provenance: dict[str, Any] | None = None,
) -> ModelCard:
    """Write a bundle, atomically, and return its card.

    priors (pdfs,). Shapes that do not fit together, and networks of an unknown class, raise InputError.
    """
    architecture = describe_network(model)
    window = splice_left + 1 + splice_right
    if architecture["input_dim"] % window:
        raise InputError(f"{folder}: the network has {architecture['input_dim']} inputs, not a multiple of the "
                         f"{window} spliced frames")
    with atomic_folder(Path(folder), _BUNDLE) as temporary:
        write_tensors(temporary / _WEIGHTS, model.state_dict())
        card = ModelCard(
            architecture=architecture, parameters=count_parameters(model), feature_recipe=feature_recipe,
            feature_dim=architecture["input_dim"] // window, splice_left=splice_left, splice_right=splice_right,
            hmm_digest=hmm_digest, lexicon_digest=lexicon_digest, priors=[float(p) for p in priors],
            prior_source=prior_source, provenance=provenance or {},
            weights_sha256=hash_file(temporary / _WEIGHTS))
        _check_card(card, Path(folder))
        write_json(temporary / _CARD, card.model_dump())
    return card


def load_bundle(
    folder: Path,
    *,
    hmm_digest: str | None = None,
    lexicon_digest: str | None = None,
    feature_recipe: dict[str, Any] | None = None,
) -> tuple[nn.Module, ModelCard]:
    """Read a bundle: the network in evaluation mode, and its card.

    Digests and the recipe, where given, are what the network is to be used with; another one, and
    missing, damaged or mixed-up files, raise InputError. Nothing is unpickled.
    """
    folder = Path(folder)
    card = read_card(folder / _CARD, ModelCard, "take a network's own folder, or train it again")
    _check_card(card, folder)
    _check_use(folder, "tree (HMM model)", card.hmm_digest, hmm_digest)
    _check_use(folder, "lexicon", card.lexicon_digest, lexicon_digest)
    if feature_recipe is not None and feature_recipe != card.feature_recipe:
        different = sorted(key for key in {*feature_recipe, *card.feature_recipe}
                           if feature_recipe.get(key) != card.feature_recipe.get(key))
        shown = "; ".join(f"{key}: {card.feature_recipe.get(key)!r} against {feature_recipe.get(key)!r}"
                          for key in different)
        raise InputError(f"{folder}: the model was trained on other features than the given ones ({shown}); "
                         "use features of the model's own recipe")
    weights = folder / _WEIGHTS
    file_size(weights)
    if hash_file(weights) != card.weights_sha256:
        raise InputError(f"{weights}: is not the file that {folder / _CARD} describes (SHA-256 differs); "
                         "the bundle is damaged or mixed up")
    tensors = read_torch_tensors(weights, "weights")
    if sum(value.numel() for value in tensors.values()) < card.parameters:
        raise InputError(f"{weights}: fewer than the {card.parameters} parameters of {folder / _CARD}")
    try:
        model = restore_network(card.architecture, card.parameters)
    except InputError as error:
        raise InputError(f"{folder / _CARD}: {error}") from error
    with parsing(weights, f"weights, which do not fit the architecture of {folder / _CARD}"):
        model.load_state_dict(tensors)
        unsound = next((name for name, value in tensors.items() if not value.isfinite().all()), None)
    if unsound is not None:
        raise InputError(f"{weights}: {unsound} holds values that are not finite; train the network again")
    return model.eval(), card


def bundle_bytes(folder: Path) -> int:
    """Bytes of a bundle without what its card tells of the training: what a device must hold."""
    card = read_json(Path(folder) / _CARD)
    without = json.dumps({key: value for key, value in card.items() if key != "provenance"}, separators=(",", ":"))
    return (Path(folder) / _WEIGHTS).stat().st_size + len(without.encode())


def _check_card(card: ModelCard, folder: Path) -> None:
    if not card.priors:
        raise InputError(f"{folder}: no priors")
    pdfs, inputs = card.architecture.get("num_pdfs"), card.architecture.get("input_dim")
    expected = card.feature_dim * (card.splice_left + 1 + card.splice_right)
    if inputs != expected:
        raise InputError(f"{folder}: the network has {inputs} inputs, features and splice make {expected}")
    if pdfs != card.num_pdfs:
        raise InputError(f"{folder}: the network has {pdfs} pdfs, the priors {card.num_pdfs}")
    if min(card.priors) <= 0 or abs(sum(card.priors) - 1) > 1e-3:
        raise InputError(f"{folder}: priors must be above 0 and sum to 1 (minimum {min(card.priors)}, "
                         f"sum {sum(card.priors)})")


def _check_use(folder: Path, what: str, own: str, given: str | None) -> None:
    if given is not None and own != given:
        raise InputError(f"{folder}: the model belongs to the {what} {own[:12]}, but was to be used with "
                         f"{what} {given[:12]}; take the one that it was trained with")
