"""The HMM-GMM model in one folder: JSON for its structure, safetensors for its numbers."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_bytes, hash_json, read_json, write_json
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.phones import PhoneTable

_FORMAT = 2


@dataclass(frozen=True)
class HmmModel:
    """Phones, lexicon, topology, tree, transition model and (unless scores come from elsewhere) GMMs.

    `feature_recipe` describes the features that the GMMs were trained on, `front_end` what is done to those for
    every speaker alike. The Gaussians `gmm` of a speaker-adapted model are for features that each speaker's transform
    was applied to; it has `speaker_independent_gmm` of the same tree for features without (Kaldi's `final.alimdl`).
    """

    lexicon: Lexicon
    topology: Topology
    tree: DecisionTree
    transitions: TransitionModel
    gmm: DiagonalGmms | None = None
    feature_recipe: dict[str, Any] | None = None
    front_end: FrontEnd = FrontEnd()
    speaker_independent_gmm: DiagonalGmms | None = None

    @property
    def phones(self) -> PhoneTable:
        return self.lexicon.phones

    @cached_property
    def digest(self) -> str:
        """Identifies phones, topology and tree, and so the meaning of pdf-ids and transition-ids."""
        return hash_json({"phones": self.phones.as_json(), "topology": self.topology.as_json(),
                          "tree": self.tree.as_json()})

    @property
    def is_speaker_adapted(self) -> bool:
        """Whether the Gaussians are for features with a transform for each speaker."""
        return self.speaker_independent_gmm is not None

    @cached_property
    def gmm_digest(self) -> str:
        """Identifies what scores adapted features: front end, Gaussians, transition probabilities."""
        numbers = [getattr(self.gmm, name) for name in _GMM_ARRAYS] if self.gmm is not None else []
        return hash_json({"model": self.digest, "features": self.feature_recipe, "front_end": self.front_end.digest,
                          "numbers": [hash_bytes(np.ascontiguousarray(array).tobytes())
                                      for array in (*numbers, self.transitions.log_probs)]})

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
            "format": _FORMAT, "digest": self.digest, "gmm_digest": self.gmm_digest,
            "lexicon_digest": self.lexicon.digest,
            "feature_recipe": self.feature_recipe, "front_end": self.front_end.as_json(),
            "num_pdfs": self.tree.num_pdfs,
            "num_transition_ids": self.transitions.num_transition_ids,
            "phones": self.phones.as_json(), "topology": self.topology.as_json(), "tree": self.tree.as_json(),
            "transitions": self.transitions.as_json(), "lexicon": self.lexicon.as_json()}
        arrays = {"transition_log_probs": self.transitions.log_probs}
        if self.front_end.transform is not None:
            arrays["front_end.transform"] = self.front_end.transform
        for kind in _GMM_KINDS:
            gmm = getattr(self, kind)
            if gmm is not None:
                arrays |= {f"{kind}.{name}": getattr(gmm, name) for name in _GMM_ARRAYS}
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
            found = value.get("format") if isinstance(value, dict) else None
            raise InputError(f"{path}: {'no model' if found is None else f'a model of format {found}'}, expected "
                             f"one of format {_FORMAT}; train it again")
        numbers = path.with_name("model.safetensors")
        try:
            arrays = load_file(numbers)
            phones = PhoneTable.from_json(value["phones"])
            topology = Topology.from_json(value["topology"])
            transitions = TransitionModel(topology, [tuple(t) for t in value["transitions"]["tuples"]],
                                          arrays["transition_log_probs"])
            gmm, independent = (
                DiagonalGmms(*(arrays[f"{kind}.{name}"] for name in _GMM_ARRAYS)) if f"{kind}.means" in arrays else None
                for kind in _GMM_KINDS)
            front_end = FrontEnd.from_json(value["front_end"], arrays.get("front_end.transform"))
            model = HmmModel(Lexicon.from_json(value["lexicon"], phones), topology,
                             DecisionTree.from_json(value["tree"]), transitions, gmm, value["feature_recipe"],
                             front_end, independent)
        except FileNotFoundError as error:
            raise InputError(f"{numbers}: no such file") from error
        except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{folder}: damaged model ({type(error).__name__}: {error}); train it again") from error
        if model.digest != value["digest"] or model.lexicon.digest != value["lexicon_digest"]:
            raise InputError(f"{path}: content and digest differ (edited by hand?); train it again")
        for found in (gmm, independent):
            if found is not None and found.num_pdfs != model.tree.num_pdfs:
                raise InputError(f"{numbers}: {found.num_pdfs} pdfs, the tree of {path} has {model.tree.num_pdfs}")
        if model.gmm_digest != value["gmm_digest"]:
            raise InputError(f"{numbers}: not the numbers that {path.name} describes; train it again")
        return model


_GMM_KINDS = ("gmm", "speaker_independent_gmm")
_GMM_ARRAYS = ("offsets", "weights", "means", "variances")
