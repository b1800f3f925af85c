"""The HMM-GMM model in one folder: JSON for its structure, safetensors for its numbers."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_json, read_json, write_json
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.phones import PhoneTable

_FORMAT = 1


@dataclass(frozen=True)
class HmmModel:
    """Phones, lexicon, topology, tree, transition model and (unless scores come from elsewhere) GMMs.

    `feature_recipe` describes the features that the GMMs were trained on.
    """

    lexicon: Lexicon
    topology: Topology
    tree: DecisionTree
    transitions: TransitionModel
    gmm: DiagonalGmms | None = None
    feature_recipe: dict[str, Any] | None = None

    @property
    def phones(self) -> PhoneTable:
        return self.lexicon.phones

    @cached_property
    def digest(self) -> str:
        """Identifies phones, topology and tree, and so the meaning of pdf-ids and transition-ids."""
        return hash_json({"phones": self.phones.as_json(), "topology": self.topology.as_json(),
                          "tree": self.tree.as_json()})

    @property
    def name(self) -> str:
        """A short name for messages: `728 pdfs (3f2a9c1b)`."""
        return f"{self.tree.num_pdfs} pdfs ({self.digest[:8]})"

    def with_lexicon(self, lexicon: Lexicon) -> "HmmModel":
        """The same model with another lexicon over the same phones; InputError where the phones differ."""
        if lexicon.phones != self.phones:
            raise InputError(f"the lexicon's phones ({lexicon.phones.digest[:8]}) are not those of the model "
                             f"{self.name} ({self.phones.digest[:8]})")
        return replace(self, lexicon=lexicon)

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` to a folder that is whole or absent."""
        from safetensors.numpy import save_file

        description = {
            "format": _FORMAT, "digest": self.digest, "lexicon_digest": self.lexicon.digest,
            "feature_recipe": self.feature_recipe, "num_pdfs": self.tree.num_pdfs,
            "num_transition_ids": self.transitions.num_transition_ids,
            "phones": self.phones.as_json(), "topology": self.topology.as_json(), "tree": self.tree.as_json(),
            "transitions": self.transitions.as_json(), "lexicon": self.lexicon.as_json()}
        arrays = {"transition_log_probs": self.transitions.log_probs}
        if self.gmm is not None:
            arrays |= {f"gmm.{name}": getattr(self.gmm, name) for name in _GMM_ARRAYS}
        with atomic_folder(Path(folder)) as temporary:
            write_json(temporary / "model.json", description)
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary / "model.safetensors")

    @staticmethod
    def load(folder: Path) -> "HmmModel":
        """Read what `save` wrote. InputError where a file is missing, damaged or belongs to another model."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder) / "model.json"
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise InputError(f"{path}: not a model of format {_FORMAT}; train it again")
        numbers = path.with_name("model.safetensors")
        try:
            arrays = load_file(numbers)
            phones = PhoneTable.from_json(value["phones"])
            topology = Topology.from_json(value["topology"])
            transitions = TransitionModel(topology, [tuple(t) for t in value["transitions"]["tuples"]],
                                          arrays["transition_log_probs"])
            gmm = None
            if "gmm.means" in arrays:
                gmm = DiagonalGmms(*(arrays[f"gmm.{name}"] for name in _GMM_ARRAYS))
            model = HmmModel(Lexicon.from_json(value["lexicon"], phones), topology,
                             DecisionTree.from_json(value["tree"]), transitions, gmm, value["feature_recipe"])
        except FileNotFoundError as error:
            raise InputError(f"{numbers}: no such file") from error
        except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{folder}: damaged model ({type(error).__name__}: {error}); train it again") from error
        if model.digest != value["digest"] or model.lexicon.digest != value["lexicon_digest"]:
            raise InputError(f"{path}: content and digest differ (edited by hand?); train it again")
        if gmm is not None and gmm.num_pdfs != model.tree.num_pdfs:
            raise InputError(f"{numbers}: {gmm.num_pdfs} pdfs, the tree of {path} has {model.tree.num_pdfs}")
        return model


_GMM_ARRAYS = ("offsets", "weights", "means", "variances")
