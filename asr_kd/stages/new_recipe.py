"""Writing a recipe for a corpus at hand."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from asr_kd.core.config import NAME_PATTERN
from asr_kd.core.errors import InputError, messages_of_stage
from asr_kd.core.files import atomic_file
from asr_kd.core.recipe import read_recipe
from asr_kd.core.text_tables import read_lines
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.stages.registry import STAGE_KINDS
from data_prep.corpus_kinds import CorpusFacts, look_at_corpus

Size = Literal["small", "medium"]
_LEXICONS = ("lexicon.txt", "lexicon/lexicon.txt", "dict/lexicon.txt", "local/dict/lexicon.txt")
_NETWORKS = ("teacher", "student-ce", "student-kd")
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*")
_ARPA_HEADER = 1000  # lines that may stand before it


@dataclass(frozen=True)
class NewRecipe:
    """A recipe that was written, the command that runs it, and the fault that stops it yet, if any."""

    file: Path
    command: str
    fault: str


def init_recipe(
    name: str,
    corpus: Path,
    lexicon: str | None = None,
    lm: str = "transcripts",
    size: Size = "small",
    split: list[str] | None = None,
) -> NewRecipe:
    """Write the folder `name` with a recipe.yaml for the corpus in a folder; `asr-kd init`.

    `lexicon`: a file, `cmudict`, or `graphemes` (default: a lexicon that lies in the corpus, else
    graphemes). `lm`: an ARPA file, a text (a sentence a line) that is mixed with the transcripts of
    train, or those alone. `size`: for minutes (`small`) or tens of hours (`medium`) of speech.
    `split`: `NAME=FOLDER` where the corpus's folders have other names. InputError for a recipe that
    is there already, a corpus of no known kind, and files that are not there.
    """
    folder, corpus = Path(name), Path(corpus)
    file = folder / "recipe.yaml"
    if file.exists():
        raise InputError(f"{file}: there is a recipe already; give another name, or remove it")
    for path in (name, str(corpus), lexicon or "", lm, *(split or [])):
        if not path.isprintable():
            raise InputError(
                f"{path!r}: a recipe cannot name a path with control characters or bytes that are "
                "not UTF-8; rename it"
            )
    if size not in get_args(Size):
        raise InputError(f"--size {size}: expected {' or '.join(get_args(Size))}")
    facts = look_at_corpus(corpus, _named_folders(split or []))
    prepare = _prepare_settings(corpus, facts, lexicon, size)
    stages: dict[str, Any] = {"prepare": {"settings": prepare}}
    stages |= _language_model_stages(corpus, lm, prepare)
    stages |= _audio_stages(facts)
    with atomic_file(file) as opened:
        opened.write(_write(name, corpus, facts, size, stages))
    return NewRecipe(file, _run_command(name, corpus), _fault(folder, corpus))


def _prepare_settings(
    corpus: Path, facts: CorpusFacts, lexicon: str | None, size: Size
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if any(split != folder for split, folder in facts.folders.items()):
        settings["splits"] = dict(facts.folders)
    if facts.root is not None:
        settings["root"] = str(facts.root)
    if lexicon is None:
        lexicon = next((name for name in _LEXICONS if (corpus / name).is_file()), "graphemes")
        lexicon = lexicon if lexicon == "graphemes" else str(corpus / lexicon)
    if lexicon == "graphemes":
        settings["pronunciations"] = {"source": "graphemes"}
    elif lexicon == "cmudict":
        # A small corpus does not tell stressed vowels apart.
        stress = {"stress": "strip"} if size == "small" else {}
        settings["pronunciations"] = {"source": "cmudict", "missing": "g2p", **stress}
    else:
        file = _given(lexicon, "--lexicon", "a lexicon, cmudict or graphemes")
        settings["lexicon"] = _as_setting(corpus, file)
        if facts.training_words - {entry.word for entry in read_lexicon(file)}:
            settings["pronunciations"] = {"source": "file", "missing": "g2p"}
    return settings


def _language_model_stages(
    corpus: Path, lm: str, prepare: dict[str, Any]
) -> dict[str, dict[str, Any] | None]:
    """Stages that another language model than that of the transcripts changes; its file goes into
    the settings of the preparing stage."""
    if lm == "transcripts":
        return {}
    file = _given(lm, "--lm", "an ARPA file, a text, or transcripts")
    if _is_arpa(file):
        prepare["language_model"] = _as_setting(corpus, file)
        own = {"reads": {"language_model": None}}
        return {"lm": None, "graph-tri": own, "graph": own}
    if ".arpa" in file.suffixes:
        raise InputError(
            f"{file}: no line \\data\\ in it; expected an ARPA file, or a text under another name"
        )
    if not re.fullmatch(NAME_PATTERN, file.name):
        raise InputError(
            f"--lm {file}: a stage names a text by its file name, of letters, digits and '._+-'; "
            "rename the file"
        )
    prepare["texts"] = [_as_setting(corpus, file)]
    return {"lm": {"settings": {"extra": [file.name]}}}


def _audio_stages(facts: CorpusFacts) -> dict[str, dict[str, Any]]:
    features: dict[str, Any] = {"features": {"sampling_rate": facts.sampling_rate}}
    features |= {"resample": True} if facts.resample else {}
    features |= {"mix_down": True} if facts.mix_down else {}
    held_out = {"training": {"held_out_speakers": max(1, min(10, facts.training_speakers // 8))}}
    return {
        "mfcc": {"settings": features},
        **{network: {"settings": held_out} for network in _NETWORKS},
    }


_SAID = {
    "prepare": "files are relative to the corpus, or absolute",
    "lm": "weights of the texts are chosen on dev",
    "mfcc": "the corpus's own rate in Hz",
    "teacher": "training speakers kept to judge each epoch by: about a tenth",
}


def _write(
    name: str, corpus: Path, facts: CorpusFacts, size: Size, stages: Mapping[str, Any]
) -> str:
    """The text of recipe.yaml."""
    command = _run_command(name, corpus)
    speakers = f"{facts.training_speakers} speaker{'s'[: facts.training_speakers != 1]}"
    is_whole = "pronunciations" not in stages["prepare"]["settings"]
    vocabulary = "the lexicon" if is_whole else "train and of the language model"
    described = f"{facts.training_utterances} utterances of {speakers} to train on"
    lines = [
        f"# {Path(name).resolve().name}: speech of {corpus}.",
        "#",
        f"#   {command}",
        f"#   {command} --dry-run      # says what would be done, and what is amiss",
        "#",
        f"# These settings override those of the base hybrid-{size}. Change them here; asr-kd stages KIND",
        "# lists the settings of a kind of stage. Results show the out-of-vocabulary rate beside each error",
        f"# rate: the vocabulary is that of {vocabulary}.",
        f"description: {_scalar(f'GMMs, a DNN teacher and students by distillation, {described}')}",
        "",
        f"extends: hybrid-{size}",
        "",
        "stages:",
    ]
    for stage, entry in stages.items():
        said = f"  # {_SAID[stage]}" if stage in _SAID and entry is not None else ""
        if stage == "prepare":
            lines += [f"  prepare:{said}", "    settings:"]
            lines += [f"      {key}: {_flow(value)}" for key, value in entry["settings"].items()]
        else:
            lines.append(f"  {stage}: {_flow(entry)}{said}")
    return "\n".join(lines) + "\n"


def _run_command(name: str, corpus: Path) -> str:
    return shlex.join(["asr-kd", "run", name, "--corpus", str(corpus)])


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Plain text as it is, all else as JSON, which YAML reads."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    words = ("true", "false", "null", "yes", "no", "on", "off")
    return value if plain and value.lower() not in words else json.dumps(value, ensure_ascii=False)


def _named_folders(splits: list[str]) -> dict[str, str]:
    named = dict(assignment.partition("=")[::2] for assignment in splits)
    for split, folder in named.items():
        if split not in ("train", "dev", "test") or not folder:
            raise InputError(f"--split {split}: expected train=FOLDER, dev=FOLDER or test=FOLDER")
    return named


def _given(name: str, option: str, expected: str) -> Path:
    if not Path(name).is_file():
        raise InputError(f"{option} {name}: no such file; expected {expected}")
    return Path(name)


def _as_setting(corpus: Path, file: Path) -> str:
    """Relative to the corpus where a file lies in it, else absolute."""
    absolute, inside = file.resolve(), corpus.resolve()
    return str(absolute.relative_to(inside) if absolute.is_relative_to(inside) else absolute)


def _is_arpa(file: Path) -> bool:
    """Find the header of an ARPA file among the first lines."""
    return any(
        line.strip() == "\\data\\"
        for (_, line), _ in zip(read_lines(file), range(_ARPA_HEADER), strict=False)
    )


def _fault(folder: Path, corpus: Path) -> str:
    """Return the first fault that `asr-kd run` would refuse in the new recipe; empty where it would
    begin."""
    try:
        for stage in read_recipe(folder, STAGE_KINDS).stages:
            if stage.kind.check_outside is not None:
                with messages_of_stage(stage.name):
                    stage.kind.check_outside(stage.config, stage.inputs, corpus)
    except InputError as error:
        return str(error)
    return ""
