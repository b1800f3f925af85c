"""Every kind of input with its reader: how a small valid one is made, and how it is read."""

import contextlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.cli.main import main
from asr_kd.core.arrays import read_npy, read_tensors, write_npy, write_tensors
from asr_kd.core.config import Settings
from asr_kd.core.errors import AsrKdError
from asr_kd.core.files import hash_file, read_json, write_json
from asr_kd.core.opening import open_file
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import read_status
from asr_kd.data.audio import read_audio, read_header
from asr_kd.data.ctm import read_ctm
from asr_kd.data.manifest import read_manifest
from asr_kd.data.stm import read_stm
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of, write_lexicon
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.decoding.split import decode_split
from asr_kd.distillation.soft_targets import SoftTargets, SoftTargetsKey, build_soft_targets
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.kaldi_io import read_kaldi_archive, write_kaldi_archive
from asr_kd.features.speaker_transforms import SpeakerFacts, SpeakerTransforms
from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.graph.hclg import build_graph
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.kaldi_lattices.archive import read_lattices, read_word_lattices, write_lattices
from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.store import LatticeStore, LatticeStoreWriter
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.text import read_sentences, read_vocabulary
from asr_kd.models.bundle import load_bundle, save_bundle
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.log_likelihoods import log_likelihoods
from asr_kd.scoring.calibration import read_calibration
from asr_kd.scoring.system_counts import read_counts
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk
from asr_kd.stages.registry import STAGE_KINDS
from asr_kd.training.checkpoints import RunState, read_checkpoint, write_checkpoint
from asr_kd.training.data import frames_digest
from asr_kd.training.objective import CrossEntropy
from data_prep.kaldi import prepare_kaldi, read_kaldi
from tests.graph.toy import ARPA, ENTRIES
from tests.lattices.random_lattice import random_lattice
from tests.stages.tone_corpus import RECIPE, write_tone_corpus

Build = Callable[[Path], Path]
Read = Callable[[Path], object]


class CommandFault(Exception):
    """A command ended with another exit code than 0, 1, 2, or said what no command may say."""


@dataclass(frozen=True)
class Kind:
    """`build(folder)` makes a valid input there and returns what `read` takes; all files of the folder are damaged."""

    build: Build
    read: Read


def command(*arguments: str) -> None:
    """Run `asr-kd` in this process; CommandFault for a traceback, an unexpected error or another exit code."""
    said, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(output):
        code = main(list(arguments))
    text = said.getvalue()
    if code not in (0, 1, 2) or "Traceback" in text or "unexpected" in text or (code == 1 and "memory" in text):
        raise CommandFault(f"exit code {code}: {text[-400:]}")


def toy_hmm() -> HmmModel:
    """A monophone model of the toy language with Gaussians for two sets of features."""
    lexicon = Lexicon.from_entries(ENTRIES)
    topology = standard_topology(lexicon.phones, speech_states=2, silence_states=3)
    tree = monophone_tree(lexicon.phones, topology)
    generator = np.random.default_rng(0)
    means = generator.normal(0, 3, (tree.num_pdfs, 3))
    gmm, other = (DiagonalGmms(np.arange(tree.num_pdfs + 1), np.ones(tree.num_pdfs), m, np.ones_like(m))
                  for m in (means, means + 1))
    return HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree), gmm, {"frame_shift": 10.0},
                    speaker_independent_gmm=other)


def _text(name: str, content: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return build


def _corpus(folder: Path) -> Path:
    write_tone_corpus(folder / "corpus", utterances=2)
    return folder / "corpus"


def _manifests(folder: Path) -> Path:
    with contextlib.redirect_stderr(io.StringIO()):
        prepare_kaldi(_corpus(folder), folder / "manifests")
    return folder / "manifests"


def _audio(name: str, subtype: str | None = None) -> Build:
    def build(folder: Path) -> Path:
        samples = 0.1 * np.sin(np.arange(4000) / 9)
        soundfile.write(folder / name, samples, 16000, subtype)
        return folder / name

    return build


def _read_audio(path: Path) -> None:
    read_header(path)
    read_audio(path, sampling_rate=8000, resample=True, mix_down=True)


def _frame_store(folder: Path) -> Path:
    with FrameStoreWriter(folder / "store", 3, "float16", {"frame_shift": 10.0}) as writer:
        for number in range(3):
            writer.add(f"u{number}", "s", np.random.default_rng(number).normal(0, 1, (9, 3)).astype(np.float32))
    return folder / "store"


def _read_frame_store(path: Path) -> None:
    store = FrameStore.open(path)
    store.verify()
    for utterance_id in store.ids:
        store[utterance_id].sum()


def _hmm(folder: Path) -> Path:
    toy_hmm().save(folder / "hmm")
    return folder / "hmm"


def _old_hmm(folder: Path) -> Path:
    """A model without the digests of the whole, which lets more damage through to the model itself."""
    path = _hmm(folder)
    value = json.loads((path / "model.json").read_text())
    del value["content"], value["numbers_sha256"]
    (path / "model.json").write_text(json.dumps(value))
    return path


def _read_hmm(path: Path) -> None:
    model = HmmModel.load(path)
    if model.gmm is not None:
        model.gmm.log_likelihoods(np.ones((3, model.gmm.dim), np.float32))


def _alignments(folder: Path) -> Path:
    write_alignments(folder / "ali", {"u": np.array([1, 2, 2, 3], np.int32), "v": np.array([1], np.int32)}, toy_hmm())
    return folder / "ali"


def _graph(folder: Path) -> Path:
    hmm = toy_hmm()
    (folder / "lm.arpa").write_text(ARPA)
    build_graph(hmm, read_arpa(folder / "lm.arpa"), folder / "graph")
    (folder / "lm.arpa").unlink()
    write_lexicon(folder / "graph", hmm.lexicon)
    return folder / "graph"


def _old_graph(folder: Path) -> Path:
    """A graph whose description has digests of nothing but HCLG.fst."""
    path = _graph(folder)
    value = json.loads((path / "graph.json").read_text())
    for name in ("transition_pdfs", "words", "lexicon_file"):
        del value[name]
    (path / "graph.json").write_text(json.dumps(value))
    return path


def _read_graph(path: Path) -> None:
    graph = DecodingGraph.load(path)
    with_lexicon_of(path, toy_hmm(), graph.words)
    decode(graph, np.zeros((4, graph.num_pdfs), np.float32), SearchConfig())


def _decoded(folder: Path) -> Path:
    graph = DecodingGraph.load(_graph(folder))
    scores = np.random.default_rng(0).normal(0, 20, (12, graph.num_pdfs)).astype(np.float32)
    decode_split(graph, ["u", "v"], lambda _: scores, SearchConfig(), folder / "decoded", workers=1, hmm=toy_hmm())
    toy_hmm().save(folder / "hmm")
    return folder / "decoded"


def _read_decoded(path: Path) -> None:
    command("rescore", "--lattices", str(path), "--output", str(path.parent / "rescored"), "--model",
            str(path.parent / "hmm"), "--n-best", "2", "--kaldi", "--workers", "1")


def _lattice_store(kind: Any) -> Build:
    def build(folder: Path) -> Path:
        with LatticeStoreWriter(folder / "lattices", {}, kind) as writer:
            for seed in range(3):
                lattice = random_lattice(seed)
                writer.add(f"u{seed}", lattice if kind == "states" else determinize(lattice, 20.0, 1.0))
        return folder / "lattices"

    return build


def _read_lattice_store(path: Path) -> None:
    store = LatticeStore.open(path)
    for utterance_id in store.ids:
        _use_lattice(store[utterance_id])


def _lattice_blocks(kind: Any) -> Build:
    """The blocks of a lattice store before they are compressed and get their checksums."""

    def build(folder: Path) -> Path:
        store = LatticeStore.open(_lattice_store(kind)(folder))
        (folder / "blocks").mkdir()
        for number, (begin, size, _) in enumerate(read_json(folder / "lattices/lattices.json")["lattices"].values()):
            content = (folder / "lattices/lattices.bin").read_bytes()[begin : begin + size]
            (folder / f"blocks/{number}").write_bytes(zlib.decompress(content))
        (folder / "blocks/kind").write_text(store.kind)
        shutil.rmtree(folder / "lattices")
        return folder / "blocks"

    return build


def _read_lattice_blocks(path: Path) -> None:
    """Seal the blocks as a store would have them, and read that."""
    contents = [_content(path / str(number)) for number in range(3)]
    blocks = [zlib.compress(content) for content in contents]
    data = struct.pack("<8sII", b"asrkdlat", 2, 0)
    entries = {}
    for number, (content, block) in enumerate(zip(contents, blocks, strict=True)):
        entries[f"u{number}"] = [len(data), len(block), zlib.crc32(content)]
        data += block
    store = path.parent / "store"
    store.mkdir()
    (store / "lattices.bin").write_bytes(data)
    write_json(store / "lattices.json", {
        "version": 2, "kind": _content(path / "kind").decode("ascii", "replace"), "bytes": len(data),
        "description": {}, "lattices": entries})
    _read_lattice_store(store)


def _content(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(1 << 20)


def _reseal(path: Path, description: str, digests: Mapping[str, str]) -> None:
    """Put the digests of the damaged files (key -> file) into the description, as someone would who altered them."""
    with contextlib.suppress(AsrKdError):
        value = read_json(path / description)
        if isinstance(value, dict):
            value |= {key: hash_file(path / name) for key, name in digests.items() if (path / name).exists()}
            write_json(path / description, value)


def _read_resealed_graph(path: Path) -> None:
    _reseal(path, "graph.json", {"fst": "HCLG.fst", "transition_pdfs": "transition_pdfs.npy", "words": "words.txt",
                                 "lexicon_file": "lexicon.json"})
    _read_graph(path)


def _read_resealed_network(path: Path) -> None:
    _reseal(path, "model.json", {"weights_sha256": "model.safetensors"})
    _read_bundle(path)


def _use_lattice(lattice: Any) -> None:
    best_path(lattice, 10.0, 0.5)
    if isinstance(lattice, Lattice):
        determinize(lattice, 8.0, 0.1)


def _kaldi_lattices(name: str, compact: bool, **options: Any) -> Build:
    def build(folder: Path) -> Path:
        lattices = [random_lattice(seed) for seed in range(3)]
        pairs = [(f"u{i}", determinize(x, 20.0, 1.0) if compact else x) for i, x in enumerate(lattices)]
        scp = folder / "lattices.scp" if name.endswith("scp") else None
        write_lattices(folder / "lattices.ark", pairs, scp=scp, **options)
        return folder / name

    return build


def _read_kaldi_lattices(path: Path) -> None:
    for _, lattice in read_lattices(path):
        _use_lattice(lattice)
    for _, words in read_word_lattices(path, trim=True):
        _use_lattice(words)


def _kaldi_matrices(name: str, **options: Any) -> Build:
    def build(folder: Path) -> Path:
        pairs = [(f"u{i}", np.random.default_rng(i).normal(0, 1, (5, 4)).astype(np.float32)) for i in range(3)]
        scp = folder / "feats.scp" if name.endswith("scp") else None
        write_kaldi_archive(folder / "feats.ark", pairs, scp=scp, **options)
        return folder / name

    return build


def _bundle(folder: Path) -> Path:
    torch.manual_seed(0)
    save_bundle(folder / "network", HighwayDNN(9, 4, 3, 5), feature_recipe={"kind": "mfcc"}, splice_left=1,
                splice_right=1, hmm_digest="a" * 64, lexicon_digest="b" * 64, priors=np.full(5, 0.2))
    return folder / "network"


def _read_bundle(path: Path) -> None:
    model, card = load_bundle(path)
    log_likelihoods(model, card, np.ones((3, card.feature_dim), np.float32))


def _soft_targets(folder: Path) -> Path:
    store = FrameStore.open(_frame_store(folder))
    key = SoftTargetsKey(teacher="t", left=1, right=1, features=frames_digest(store), hmm="a", top_k=3)
    torch.manual_seed(0)
    with torch.random.fork_rng():
        build_soft_targets(folder / "soft", DNN(9, 4, 1, 6).eval(), store, key, "float32")
    return folder / "soft"


def _read_soft_targets(path: Path) -> None:
    targets = SoftTargets.open(path)
    targets.gather(np.arange(targets.num_frames))


def _checkpoint(folder: Path) -> Path:
    model = DNN(4, 3, 1, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    write_checkpoint(folder / "training", RunState("k", "float32", 1, epoch=1), model, CrossEntropy(), optimiser, {})
    return folder / "training"


def _transforms(folder: Path) -> Path:
    matrices = {name: np.eye(3, 4, dtype=np.float32) for name in ("a", "b")}
    facts = {name: SpeakerFacts(100.0, False, 0.5) for name in matrices}
    SpeakerTransforms(matrices, facts, "first-pass", "g" * 64).save(folder / "transforms")
    return folder / "transforms"


def _read_transforms(path: Path) -> None:
    transforms = SpeakerTransforms.load(path)
    for speaker in transforms.matrices:
        transforms.apply(np.ones((2, transforms.dim), np.float32), speaker)


def _recipe(folder: Path) -> Path:
    (folder / "recipe").mkdir()
    (folder / "recipe/recipe.yaml").write_text(RECIPE)
    return folder / "recipe"


def _set_option(path: Path) -> None:
    with open_file(path) as file:
        assignment = file.read().decode("utf-8", "surrogateescape")
    Settings({"a": {"b": 1}}, {}).with_override(assignment)


def _run_directory(folder: Path) -> Path:
    stage = folder / "run/prepare"
    stage.mkdir(parents=True)
    (folder / "run/.lock").write_text("process none\n")
    (stage / "a.txt").write_text("a")
    write_json(stage / "stage.json", {
        "stage": "prepare", "key": "k", "build": "b", "inputs": {}, "files": {"a.txt": [[1, 2, 3], "d"]},
        "wall_seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mib": 1.0, "bytes": 1, "kind": "prepare-kaldi",
        "version": 1})
    return folder / "run"


def _arrays(folder: Path) -> Path:
    write_npy(folder / "a.npy", np.arange(12.0).reshape(3, 4))
    write_tensors(folder / "a.safetensors", {"x": np.arange(4), "y": np.ones((2, 2), np.float32)})
    return folder


def _read_arrays(path: Path) -> None:
    for read, name in ((read_npy, "a.npy"), (read_tensors, "a.safetensors")):
        read(path / name)


_TEXT = "s1-a one two three\ns1-b four\ns2-a five six\n"
_TRN = "one two three (s1-a)\nfour (s1-b)\nfive six (s2-a)\n"
_CTM = "s1-a 1 0.0 0.5 one 0.9\ns1-a 1 0.5 0.5 two 0.8\ns2-a 1 0.0 0.3 five\n"
_STM = ";; comment\nrec 1 s1 0.0 5.0 <o,f0,male> one two three\nrec 1 s2 5.0 9.0 four {a / b} (uh)\n"
_UTT2SPK = "s1-a s1\ns1-b s1\ns2-a s2\n"


def _score(reference: str, hypotheses: str, name: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / f"ref.{name}").write_text(reference)
        (folder / f"hyp.{name}").write_text(hypotheses)
        (folder / "utt2spk").write_text(_UTT2SPK)
        return folder

    return build


def _read_scored(path: Path) -> None:
    reference, hypotheses = (next(path.glob(f"{name}.*"), path / name) for name in ("ref", "hyp"))
    command("score", "--ref", str(reference), "--hyp", str(hypotheses), "--draws", "100")


def _counts(folder: Path) -> Path:
    source = next(Path(__file__).parents[2].glob("recipes/demo/counts/*.json"))
    (folder / source.name).write_bytes(source.read_bytes())
    return folder / source.name


_CALIBRATION = {"kind": "isotonic", "confidences": [0.1, 0.5, 0.9], "probabilities": [0.2, 0.4, 0.8], "words": 3}


def _read_grammar(path: Path) -> None:
    model = read_arpa(path)
    words = [word for word in model.words if not word.startswith("<")]
    if words and {"<s>", "</s>"} <= set(model.words):
        build_grammar(model, ["<eps>", *words]).fst.check_costs(str(path))


KINDS: Mapping[str, Kind] = {
    "manifests": Kind(_manifests, lambda path: read_manifest(path, "train")),
    "manifests validated": Kind(_manifests, lambda path: command("validate", str(path), "--workers", "1")),
    "Kaldi directory": Kind(_corpus, lambda path: read_kaldi(path, splits=["train"])),
    "Kaldi directory prepared": Kind(_corpus, lambda path: command(
        "prepare", "kaldi", "--corpus", str(path), "--output", str(path.parent / "manifests"), "--split", "train")),
    "lexicon": Kind(_text("lexicon.txt", "one w ah n\ntwo t uw\ntwo t ah\n"), read_lexicon),
    "lexicon of phones": Kind(_text("lexicon.txt", "one w ah n\ntwo t uw\n"), Lexicon.read),
    "ARPA": Kind(_text("lm.arpa", ARPA), _read_grammar),
    "CTM": Kind(_text("a.ctm", _CTM), read_ctm),
    "STM": Kind(_text("a.stm", _STM), read_stm),
    "trn": Kind(_text("a.trn", _TRN), read_transcripts),
    "text": Kind(_text("text", _TEXT), read_transcripts),
    "utt2spk": Kind(_text("utt2spk", _UTT2SPK), read_utt2spk),
    "sentences": Kind(_text("lm.txt", "one two\nthree\n"), lambda path: list(read_sentences([path]))),
    "word list": Kind(_text("words.txt", "one\ntwo\n"), read_vocabulary),
    "scored text": Kind(_score(_TEXT, _TEXT, "txt"), _read_scored),
    "scored trn": Kind(_score(_TRN, _TRN, "trn"), _read_scored),
    "scored stm": Kind(_score(_STM, "rec 1 0.0 0.5 one 0.9\nrec 1 6.0 0.5 two\n", "stm"), _read_scored),
    "recipe": Kind(_recipe, lambda path: read_recipe(path, STAGE_KINDS)),
    "recipe run dry": Kind(_recipe, lambda path: command(
        "run", str(path), "--run-dir", str(path.parent / "run"), "--corpus", str(path.parent), "--dry-run")),
    "--set": Kind(_text("set", "a.b=[1, 2.5, {c: 1e-3}]"), _set_option),
    "JSON": Kind(_text("a.json", '{"a": [1, 2.5, "x", null], "b": {"c": true}}'), read_json),
    "counts": Kind(_counts, read_counts),
    "calibration": Kind(_text("map.json", json.dumps(_CALIBRATION)), read_calibration),
    "run directory": Kind(_run_directory, read_status),
    "run directory shown": Kind(_run_directory, lambda path: command("status", str(path))),
    "arrays": Kind(_arrays, _read_arrays),
    "frame store": Kind(_frame_store, _read_frame_store),
    "alignment store": Kind(_alignments, lambda path: AlignmentStore.open(path, toy_hmm())),
    "lattice store of words": Kind(_lattice_store("words"), _read_lattice_store),
    "lattice store of states": Kind(_lattice_store("states"), _read_lattice_store),
    "lattice blocks of words": Kind(_lattice_blocks("words"), _read_lattice_blocks),
    "lattice blocks of states": Kind(_lattice_blocks("states"), _read_lattice_blocks),
    "decoded folder": Kind(_decoded, _read_decoded),
    "Kaldi lattices, binary": Kind(_kaldi_lattices("lattices.ark", False), _read_kaldi_lattices),
    "Kaldi lattices, compact": Kind(_kaldi_lattices("lattices.ark", True), _read_kaldi_lattices),
    "Kaldi lattices, text": Kind(_kaldi_lattices("lattices.ark", True, text=True), _read_kaldi_lattices),
    "Kaldi lattices, scp": Kind(_kaldi_lattices("lattices.scp", False), _read_kaldi_lattices),
    "Kaldi matrices": Kind(_kaldi_matrices("feats.ark"), lambda path: list(read_kaldi_archive(path))),
    "Kaldi matrices, text": Kind(_kaldi_matrices("feats.ark", text=True), lambda path: list(read_kaldi_archive(path))),
    "Kaldi matrices, compressed": Kind(
        _kaldi_matrices("feats.scp", compression="CM"), lambda path: list(read_kaldi_archive(path))),
    "graph": Kind(_graph, _read_graph),
    "graph resealed": Kind(_graph, _read_resealed_graph),
    "graph of before": Kind(_old_graph, _read_graph),
    "HMM model": Kind(_hmm, _read_hmm),
    "HMM model of before": Kind(_old_hmm, _read_hmm),
    "network": Kind(_bundle, _read_bundle),
    "network resealed": Kind(_bundle, _read_resealed_network),
    "soft targets": Kind(_soft_targets, _read_soft_targets),
    "checkpoint": Kind(_checkpoint, lambda path: read_checkpoint(path, "k")),
    "speaker transforms": Kind(_transforms, _read_transforms),
    "WAV": Kind(_audio("a.wav"), _read_audio),
    "FLAC": Kind(_audio("a.flac"), _read_audio),
    "Ogg": Kind(_audio("a.ogg"), _read_audio),
    "MP3": Kind(_audio("a.mp3"), _read_audio),
    "AIFF": Kind(_audio("a.aiff"), _read_audio),
}


def files_of(folder: Path) -> Iterator[Path]:
    """The files of an input, sorted."""
    return iter(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"))
