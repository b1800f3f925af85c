"""The HMM-GMM model in one folder: JSON for its structure, safetensors for its numbers."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.arrays import read_tensors, write_tensors
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_bytes, hash_file, hash_json, read_json, write_json
from asr_kd.core.own_folders import FolderKind
from asr_kd.core.reading import parsing
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.phones import PhoneTable

_FORMAT = 2
_DESCRIPTION, _NUMBERS = "model.json", "model.safetensors"
_HMM_MODEL = FolderKind("HMM model", (_DESCRIPTION, _NUMBERS))


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
        """True if the Gaussians are for features with a transform for each speaker."""
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
        """Write `model.json` and `model.safetensors` to a folder that is whole or absent.

        `numbers_sha256` and `content` in `model.json` are digests of all numbers and of all that it says.
        """
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
        with atomic_folder(Path(folder), _HMM_MODEL) as temporary:
            write_tensors(temporary / _NUMBERS, arrays)
            description["numbers_sha256"] = hash_file(temporary / _NUMBERS)
            write_json(temporary / _DESCRIPTION, {**description, "content": hash_json(description)})

    @staticmethod
    def load(folder: Path) -> "HmmModel":
        """Read what `save` wrote. InputError where a file is missing, damaged or belongs to another model."""
        path = Path(folder) / _DESCRIPTION
        numbers = path.with_name(_NUMBERS)
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            found = value.get("format") if isinstance(value, dict) else None
            raise InputError(f"{path}: {'no model' if found is None else f'a model of format {found}'}, expected "
                             f"one of format {_FORMAT}; train it again")
        arrays = read_tensors(numbers, "model", "train it again")
        with parsing(folder, "model", "train it again"):
            _check_content(path, numbers, value)
            model = _assembled(value, arrays)
            digests = (value["digest"], value["lexicon_digest"], value["gmm_digest"])
        if (model.digest, model.lexicon.digest) != digests[:2]:
            raise InputError(f"{path}: content and digest differ (edited by hand?); train it again")
        for gmm in (model.gmm, model.speaker_independent_gmm):
            if gmm is not None and gmm.num_pdfs != model.tree.num_pdfs:
                raise InputError(f"{numbers}: {gmm.num_pdfs} pdfs, the tree of {path} has {model.tree.num_pdfs}")
        if model.gmm_digest != digests[2]:
            raise InputError(f"{numbers}: not the numbers that {path.name} describes; train it again")
        return model


def _assembled(value: dict[str, Any], arrays: dict[str, np.ndarray]) -> HmmModel:
    """The model of a description and its arrays; any exception where they are damaged."""
    phones = PhoneTable.from_json(value["phones"])
    topology = Topology.from_json(value["topology"])
    tree = DecisionTree.from_json(value["tree"])
    transitions = TransitionModel(topology, [tuple(t) for t in value["transitions"]["tuples"]],
                                  arrays["transition_log_probs"])
    if topology.num_phones != phones.num_phones:
        raise ValueError(f"a topology of {topology.num_phones} phones, the table has {phones.num_phones}")
    tree.check(topology)
    transitions.check(tree.num_pdfs)
    gmm, independent = (
        DiagonalGmms(*(arrays[f"{kind}.{name}"] for name in _GMM_ARRAYS)) if f"{kind}.means" in arrays else None
        for kind in _GMM_KINDS)
    for found in (gmm, independent):
        if found is not None:
            found.check()
    front_end = FrontEnd.from_json(value["front_end"], arrays.get("front_end.transform"))
    return HmmModel(Lexicon.from_json(value["lexicon"], phones), topology, tree, transitions, gmm,
                    value["feature_recipe"], front_end, independent)


def _check_content(path: Path, numbers: Path, value: dict[str, Any]) -> None:
    """InputError where one of the files differs from what `save` wrote; models of before have no such digests."""
    content = value.get("content")
    if content is not None and hash_json({k: v for k, v in value.items() if k != "content"}) != content:
        raise InputError(f"{path}: content and digest differ (edited by hand?); train it again")
    expected = value.get("numbers_sha256")
    if expected is not None and hash_file(numbers) != expected:
        raise InputError(f"{numbers}: not the numbers that {path.name} describes; train it again")


_GMM_KINDS = ("gmm", "speaker_independent_gmm")
_GMM_ARRAYS = ("offsets", "weights", "means", "variances")
