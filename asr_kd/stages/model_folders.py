"""Folders as commands are given them: models (what `save` wrote, or a stage's folder around it), and outputs."""

from pathlib import Path
from typing import Any

from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig


def load_hmm(folder: Path, lexicon: Path | None = None) -> HmmModel:
    """The HMM model in `folder`, with the words of the file `lexicon` in place of its own where one is given.

    InputError where the lexicon has phones that the model has not.
    """
    hmm = HmmModel.load(folder)
    if lexicon is None:
        return hmm
    own, phones = hmm.lexicon, hmm.phones
    settings: dict[str, Any] = {}
    if own.unknown_word in own.word_id:
        spoken = own.pronunciations_of[own.word_id[own.unknown_word]][0].phones[0]
        settings["unknown_phone"] = phones.base(spoken)
    config = LexiconConfig(
        position_dependent=phones.position_dependent, silence_phones=sorted({phones.base(p) for p in phones.silence}),
        optional_silence=phones.symbols[phones.optional_silence], silence_probability=own.silence_probability,
        unknown_word=own.unknown_word, **settings)
    return hmm.with_lexicon(Lexicon.read(lexicon, config, phones))


def beneath(folder: Path, *names: str) -> Path:
    """The folder, or what a stage's folder of this kind has beneath it under these names, as far as they are there."""
    folder = Path(folder)
    for name in names:
        folder = folder / name if (folder / name).is_dir() else folder
    return folder
