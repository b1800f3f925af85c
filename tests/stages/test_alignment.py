"""`asr-kd align` from a manifest and a trained model on, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.alignment.align import AlignConfig, align_log_likelihoods
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.data.ctm import read_ctm
from asr_kd.data.manifest import read_manifest, write_manifest
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import load_bundle, save_bundle
from asr_kd.models.dnn import DNN
from asr_kd.models.log_likelihoods import log_likelihoods
from asr_kd.stages.alignment import align_manifest
from tests.stages.tone_corpus import RECIPE, ToneCorpus, write_tone_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ToneCorpus:
    return write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus")


@pytest.fixture(scope="module")
def run(corpus: ToneCorpus) -> Path:
    """A run directory with manifests, features and a model."""
    root = corpus.folder.parent
    (root / "recipe").mkdir()
    (root / "recipe/recipe.yaml").write_text(RECIPE)
    assert main(["run", str(root / "recipe"), "--corpus", str(corpus.folder), "--run-dir", str(root / "run")]) == 0
    return root / "run"


def inputs(run: Path, **changes: Any) -> dict[str, Any]:
    return {"manifests": run / "prepare", "split": "train", "model": run / "mono", **changes}


def test_words_are_found_where_they_were_spoken(
    run: Path, corpus: ToneCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--manifests", str(run / "prepare"), "--split", "train", "--model", str(run / "mono")]
    assert main(["align", *arguments, "--output", str(tmp_path / "ali")]) == 0
    assert "24 of 24 utterances aligned" in capsys.readouterr().out
    words = read_ctm(tmp_path / "ali/words.ctm")
    truth = [(u, *word) for u in sorted(corpus.words) for word in corpus.words[u]]
    assert [(w.utterance, w.word) for w in words] == [(u, word) for u, word, _, _ in truth]
    # A frame stands for its window's left edge, its centre is 12.5 ms later.
    starts = np.array([w.start + 0.0125 - start for w, (_, _, start, _) in zip(words, truth, strict=True)])
    ends = np.array([w.end + 0.0125 - end for w, (_, _, _, end) in zip(words, truth, strict=True)])
    assert (abs(np.concatenate([starts, ends])) < 0.03).mean() > 0.98
    assert sorted(p.name for p in (tmp_path / "ali").glob("[!.]*")) == [
        "alignments", "phones.ctm", "scores.jsonl", "summary.json", "textgrid", "words.ctm"]
    assert len(list((tmp_path / "ali/textgrid").iterdir())) == 24
    scores = [json.loads(line) for line in (tmp_path / "ali/scores.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scores] == sorted(corpus.words)
    summary = json.loads((tmp_path / "ali/summary.json").read_text())
    frames = [row["frames"] for row in scores]
    assert summary["frames"] == sum(frames) and summary["log_likelihood_per_frame"] == pytest.approx(
        np.average([row["log_likelihood_per_frame"] for row in scores], weights=frames), abs=1e-3)


def test_features_given_and_features_made_give_the_same_alignment(run: Path, tmp_path: Path) -> None:
    made = align_manifest(**inputs(run, output=tmp_path / "made", formats=["ids"]))
    for number, features in enumerate((run / "mfcc", run / "mfcc/train")):
        given = align_manifest(**inputs(run, output=tmp_path / f"given{number}", features=features, formats=["ids"]))
        assert given == made
    stores = [AlignmentStore.open(tmp_path / name / "alignments") for name in ("made", "given0", "given1")]
    assert len({store.digest for store in stores}) == 1
    assert not (tmp_path / "made/words.ctm").exists() and (tmp_path / "made/pdf_ids.txt").exists()


def test_adapting_to_speakers_is_said_and_fits_better(run: Path, tmp_path: Path) -> None:
    adapted = align_manifest(**inputs(run, output=tmp_path / "ali", adapt=True))
    assert adapted["transforms"]["supervision"] == "transcript"
    assert adapted["transforms"]["speakers"] == 2 and adapted["transforms"]["fallbacks"] == []
    assert adapted["transforms"]["gain_per_frame"] > 0 and adapted["utterances"]["kept"] == 24


def test_network_scores_are_those_of_decoding(run: Path, tmp_path: Path) -> None:
    hmm, store = HmmModel.load(run / "mono"), FrameStore.open(run / "mfcc/train")
    bundle = save_random_network(tmp_path / "stage/model", hmm, store.recipe)
    found = align_manifest(**inputs(run, output=tmp_path / "ali", network=bundle.parent))
    assert found["scores"] == "network"
    net, card = load_bundle(bundle)
    transcripts = {u.id: u.text.split() for u in read_manifest(run / "prepare", "train")}
    expected, _ = align_log_likelihoods(hmm, lambda u: log_likelihoods(net, card, store[u]), transcripts, AlignConfig())
    alignments = AlignmentStore.open(tmp_path / "ali/alignments", hmm)
    assert alignments.ids == sorted(expected)
    assert all(np.array_equal(alignments[u], expected[u]) for u in expected)


def test_a_network_that_hears_adapted_features_gets_them(run: Path, tmp_path: Path) -> None:
    hmm, store = HmmModel.load(run / "mono"), FrameStore.open(run / "mfcc/train")
    recipe = {"kind": "fmllr", "frame_shift": 10.0, "gmm": hmm.gmm_digest, "base": store.recipe,
              "normalisation": "speaker", "normalise_variance": True}
    bundle = save_random_network(tmp_path / "model", hmm, recipe, 39)
    with pytest.raises(InputError, match=r"or adapt \(--adapt\)"):
        align_manifest(**inputs(run, output=tmp_path / "ali", network=bundle))
    found = align_manifest(**inputs(run, output=tmp_path / "ali", network=bundle, adapt=True))
    assert found["utterances"]["kept"] == 24 and found["transforms"]["supervision"] == "transcript"
    other = save_random_network(tmp_path / "other", hmm, {**recipe, "gmm": "0" * 64}, 39)
    with pytest.raises(InputError, match="hears features adapted to the GMMs 00000000"):
        align_manifest(**inputs(run, output=tmp_path / "ali2", network=other, adapt=True))
    assert not (tmp_path / "ali2").exists()


def test_a_network_of_plain_features_is_not_adapted(run: Path, tmp_path: Path) -> None:
    hmm, store = HmmModel.load(run / "mono"), FrameStore.open(run / "mfcc/train")
    bundle = save_random_network(tmp_path / "model", hmm, store.recipe)
    with pytest.raises(InputError, match="not adapted to speakers"):
        align_manifest(**inputs(run, output=tmp_path / "ali", network=bundle, adapt=True))


def test_what_does_not_align_is_named_with_its_score_and_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = read_manifest(run / "prepare", "train")
    changed = [replace(utterances[0], text="ab " * 200), replace(utterances[1], text="dec ced dec ced dec"),
               *utterances[2:]]
    write_manifest(tmp_path, "train", changed)
    arguments = ["align", "--manifests", str(tmp_path), "--split", "train", "--model", str(run / "mono"),
                 "--output", str(tmp_path / "ali")]
    # The wrong words of the second are found out where the beam is narrow.
    narrow = [*arguments, "--beam", "3", "--retry-beam", "3", "--max-dropped", "0.3", "--json"]
    assert main(narrow) == 0
    items = json.loads(capsys.readouterr().out)["utterances"]["items"]
    (short,), lost = items["fewer frames than its phones need"], items["no path within the retry beam"]
    assert short["id"] == utterances[0].id and "at least 1200 needed" in short["detail"]
    assert utterances[1].id in [item["id"] for item in lost]
    assert all("log-likelihood -" in item["detail"] and "% of the transcript" in item["detail"] for item in lost)
    assert main(narrow[:-1]) == 0
    assert f"not aligned: {utterances[0].id}: fewer frames than its phones need: " in capsys.readouterr().out
    assert main([*arguments[:-1], str(tmp_path / "strict"), "--max-dropped", "0"]) == 1
    assert "fewer frames than its phones need" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_other_words_in_the_models_phones(run: Path, corpus: ToneCorpus, tmp_path: Path) -> None:
    texts = {u.id: u.text.split() for u in read_manifest(run / "prepare", "train")}
    write_manifest(tmp_path, "train", [
        replace(u, text=" ".join("new" if w == "ab" else w for w in texts[u.id]))
        for u in read_manifest(run / "prepare", "train")])
    lexicon = tmp_path / "lexicon.txt"
    own_words = (corpus.folder / "lexicon.txt").read_text()
    lexicon.write_text(own_words.replace("ab A B", "new A B"))
    align_manifest(tmp_path, "train", run / "mono", tmp_path / "new", lexicon=lexicon)
    align_manifest(**inputs(run, output=tmp_path / "own"))
    own, new = (read_ctm(tmp_path / name / "words.ctm") for name in ("own", "new"))
    assert [(w.utterance, w.start, w.duration) for w in own] == [(w.utterance, w.start, w.duration) for w in new]
    assert "new" in {w.word for w in new} and "ab" not in {w.word for w in new}


@pytest.mark.parametrize(("changes", "message"), [
    ({"split": "dev"}, "no split dev"),
    ({"manifests": "nowhere"}, "nowhere: no such folder"),
    ({"model": "nowhere"}, "model.json: no such file"),
    ({"features": "nowhere"}, "no feature store"),
    ({"network": "nowhere"}, "model.json: no such file"),
    ({"transforms": "nowhere"}, "transforms.json: no such file"),
    ({"transforms": "nowhere", "adapt": True}, "choose one of them"),
    ({"formats": ["praat"]}, "format 'praat': expected one of ctm, textgrid, ids"),
    ({"beam": 0.0}, "beam: expected greater than or equal to 0.01, found 0.0"),
    ({"lexicon": "lexicon.txt"}, "'Q'"),
    ({"output": "."}, "exists and is no alignment"),
])
def test_wrong_input_is_one_line_before_any_work(
    run: Path, tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lexicon.txt").write_text("ab A Q\n")
    before = sorted(tmp_path.iterdir())
    settings = inputs(run, output="ali")
    settings |= changes
    arguments = []
    for name, value in settings.items():
        if isinstance(value, str) and name != "split":
            value = tmp_path / value
        option = "--format" if name == "formats" else f"--{name.replace('_', '-')}"
        arguments += [option] if value is True else [option, str(value[0] if isinstance(value, list) else value)]
    assert main(["align", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asr-kd: ") and error.count("\n") == 1 and message in error
    assert sorted(tmp_path.iterdir()) == before


def test_words_without_pronunciation_are_named_or_mapped(run: Path, tmp_path: Path) -> None:
    utterances = read_manifest(run / "prepare", "train")
    write_manifest(tmp_path, "train", [replace(utterances[0], text=f"{utterances[0].text} zyzzyva"), *utterances[1:]])
    with pytest.raises(InputError, match=f"'zyzzyva' \\({utterances[0].id}\\)"):
        align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali")
    found = align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali", map_unknown=True, retry_beam=400.0)
    assert found["utterances"]["kept"] == 24
    assert "zyzzyva" in [w.word for w in read_ctm(tmp_path / "ali/words.ctm")]


def test_features_of_another_kind_are_refused(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    replace(hmm, feature_recipe={**(hmm.feature_recipe or {}), "num_mel_bins": 30}).save(tmp_path / "other")
    with pytest.raises(InputError, match="other features than those that the GMMs were trained on"):
        align_manifest(run / "prepare", "train", tmp_path / "other", tmp_path / "ali", features=run / "mfcc")


def test_a_model_that_does_not_say_what_it_hears_needs_features(run: Path, tmp_path: Path) -> None:
    replace(HmmModel.load(run / "mono"), feature_recipe=None).save(tmp_path / "mono")
    with pytest.raises(InputError, match="does not say what features it was trained on"):
        align_manifest(run / "prepare", "train", tmp_path / "mono", tmp_path / "ali")


@pytest.mark.parametrize("adapt", [False, True])
def test_features_of_more_utterances_than_the_manifest_has(run: Path, tmp_path: Path, adapt: bool) -> None:
    utterances = read_manifest(run / "prepare", "train")[:5]
    write_manifest(tmp_path, "train", utterances)
    found = align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali", features=run / "mfcc", adapt=adapt)
    assert found["utterances"]["total"] == found["utterances"]["kept"] == 5


def test_ids_with_spaces_are_refused_before_any_work_or_written_as_textgrids(run: Path, tmp_path: Path) -> None:
    utterances = read_manifest(run / "prepare", "train")
    write_manifest(tmp_path, "train", [replace(utterances[0], id="a b"), *utterances[1:]])
    with pytest.raises(InputError, match="'a b' cannot stand in CTM files"):
        align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali")
    align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali", formats=["textgrid"])
    assert (tmp_path / "ali/textgrid/a b.TextGrid").is_file()


def test_unusable_audio_is_counted(run: Path, tmp_path: Path) -> None:
    utterances = read_manifest(run / "prepare", "train")
    write_manifest(tmp_path, "train", [replace(utterances[0], audio=tmp_path / "gone.wav"), *utterances[1:]])
    found = align_manifest(tmp_path, "train", run / "mono", tmp_path / "ali")
    assert found["utterances"]["dropped"] == {"missing file": 1} and found["utterances"]["kept"] == 23
    assert found["utterances"]["items"]["missing file"] == [{"id": utterances[0].id, "detail": "no such file"}]


def test_the_folder_that_the_command_runs_in_is_not_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (Path("."), tmp_path):
        with pytest.raises(InputError, match="the folder that this command runs in"):
            align_manifest(**inputs(run, output=output))


def test_an_earlier_alignment_is_replaced(run: Path, tmp_path: Path) -> None:
    align_manifest(**inputs(run, output=tmp_path / "ali", formats=["ids"]))
    align_manifest(**inputs(run, output=tmp_path / "ali", formats=["ctm"]))
    assert (tmp_path / "ali/words.ctm").exists() and not (tmp_path / "ali/pdf_ids.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ali"]


def save_random_network(folder: Path, hmm: HmmModel, recipe: dict[str, Any], dim: int = 13) -> Path:
    torch.manual_seed(0)
    pdfs = hmm.tree.num_pdfs
    priors = np.random.default_rng(0).dirichlet(np.ones(pdfs)) + 1e-3
    save_bundle(folder, DNN(3 * dim, 16, 1, pdfs), feature_recipe=recipe, splice_left=1, splice_right=1,
                hmm_digest=hmm.digest, lexicon_digest=hmm.lexicon.digest, priors=priors / priors.sum())
    return folder
