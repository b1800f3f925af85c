"""`asr-kd adapt` on the small demo: adapters, their gate, and what is refused."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from asr_kd.adaptation.adapter import Adapter, read_speakers
from asr_kd.cli.main import main
from asr_kd.core.errors import AsrKdError, InputError
from asr_kd.data.audio import read_utterance
from asr_kd.data.manifest import Utterance, read_manifest, write_manifest
from asr_kd.stages import adaptation_job
from asr_kd.stages.adaptation import adapt_network
from asr_kd.stages.alignment import align_manifest
from asr_kd.stages.transcription import decode_manifest

SYSTEM = "hdnn128-kd"
ONE_EPOCH = ["adaptation.training.epochs=1"]


def speech(run: Path) -> list[Utterance]:
    return read_manifest(run / "prepare", "adaptation")


def adapted(demo: Path, output: Path, **settings: Any) -> dict[str, Any]:
    arguments = {"speech": demo / "prepare", "split": "adaptation", "run": demo, "system": SYSTEM, "gate": False}
    return adapt_network(output=output, **{**arguments, **settings})


@pytest.fixture(scope="module")
def voice(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter to the demo's adaptation speaker, not judged."""
    folder = tmp_path_factory.mktemp("adapters") / "voice"
    adapted(finished_demo, folder)
    return folder


def decoded(run: Path, output: Path, adapter: Path | None, **settings: Any) -> dict[str, Any]:
    return decode_manifest(run / "prepare", "adaptation", run / "sat", run / "graph", output,
                           network=run / "student-kd-seed1", adapter=adapter, **settings)


def test_decode_uses_an_adapter_and_counts_what_it_scored(finished_demo: Path, voice: Path, tmp_path: Path) -> None:
    plain = decoded(finished_demo, tmp_path / "plain", None)
    with_voice = decoded(finished_demo, tmp_path / "adapted", voice)
    count = len(speech(finished_demo))
    assert with_voice["adapted"]["utterances"] == {"adapted": count, "unadapted": 0, "refused": 0}
    assert "adapted" not in plain
    assert (tmp_path / "plain" / "lattices.bin").read_bytes() != (tmp_path / "adapted" / "lattices.bin").read_bytes()


def test_an_adapter_has_a_report_and_says_what_it_was_made_from(finished_demo: Path, voice: Path) -> None:
    utterances = speech(finished_demo)
    card = Adapter.load(voice).card
    assert card.active and card.parameters == ["gates"] and card.made_from.teaching == "both"
    assert card.made_from.utterances == sorted(one.id for one in utterances)
    spoken = sum(one.duration for one in utterances)
    assert spoken - 0.05 * len(utterances) < card.made_from.seconds <= spoken
    report = json.loads((voice / "report.json").read_text())
    assert report["active"] and report["seconds"] == card.made_from.seconds and report["held_out"] is None
    assert report["utterances"] == len(utterances) and report["faulty_audio"]["dropped"] == {}
    page = (voice / "report.md").read_text()
    assert "**active**" in page and "not judged" in page
    assert f"in {len(utterances)} utterances, {report['epochs']} epochs" in page


def test_align_uses_an_adapter_and_counts_what_it_scored(finished_demo: Path, voice: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "manifests": finished_demo / "prepare", "split": "adaptation", "model": finished_demo / "sat",
        "network": finished_demo / "student-kd-seed1", "formats": ["ids"], "adapt": True}
    plain = align_manifest(**arguments, output=tmp_path / "plain")
    with_voice = align_manifest(**arguments, output=tmp_path / "adapted", adapter=voice)
    count = len(speech(finished_demo))
    assert with_voice["adapted"]["utterances"] == {"adapted": count, "unadapted": 0, "refused": 0}
    # It learnt these very alignments, or ones near to them.
    assert with_voice["log_likelihood_per_frame"] > plain["log_likelihood_per_frame"]


def test_an_adapter_without_its_network_is_refused(finished_demo: Path, voice: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give its network too"):
        decode_manifest(finished_demo / "prepare", "adaptation", finished_demo / "sat", finished_demo / "graph",
                        tmp_path / "out", adapter=voice)
    with pytest.raises(InputError, match="no adapter .* and no folder of adapters"):
        decoded(finished_demo, tmp_path / "out", finished_demo / "sat")


def test_an_adapter_of_another_network_is_refused_with_both_names(
        finished_demo: Path, voice: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="student-kd-seed1.*student-ce-seed1"):
        decode_manifest(finished_demo / "prepare", "adaptation", finished_demo / "sat", finished_demo / "graph",
                        tmp_path / "out", network=finished_demo / "student-ce-seed1", adapter=voice)


def test_shuffled_transcripts_are_refused_with_exit_code_3_and_the_adapter_is_kept(
        finished_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    utterances = speech(finished_demo)
    texts = [utterance.text for utterance in utterances]
    wrong = "".join(f"{one.id} {text}\n" for one, text in zip(utterances, texts[1:] + texts[:1], strict=True))
    (tmp_path / "text").write_text(wrong)
    code = main(["adapt", "--run", str(finished_demo), "--system", SYSTEM, "--speech", str(finished_demo / "prepare"),
                 "--split", "adaptation", "--transcripts", str(tmp_path / "text"), "--output", str(tmp_path / "voice")])
    printed = capsys.readouterr()
    assert code == 3
    assert "refused" in printed.err and "before" in printed.out and "canary" in printed.out
    adapter = Adapter.load(tmp_path / "voice")
    assert not adapter.card.active and adapter.card.refusals
    report = json.loads((tmp_path / "voice" / "report.json").read_text())
    assert report["refusals"] == adapter.card.refusals and not report["active"]
    assert "**refused**" in (tmp_path / "voice" / "report.md").read_text()
    with pytest.raises(InputError, match="was refused"):
        decoded(finished_demo, tmp_path / "out", tmp_path / "voice")
    used = decoded(finished_demo, tmp_path / "out", tmp_path / "voice", refused_too=True)["adapted"]["utterances"]
    assert used == {"adapted": len(utterances), "unadapted": 0, "refused": 0}


def test_each_speaker_has_an_adapter_and_others_hear_the_network_as_it_is(
        finished_demo: Path, tmp_path: Path) -> None:
    two = two_speakers(finished_demo, tmp_path / "manifests")
    adapted(finished_demo, tmp_path / "voices", speech=tmp_path / "manifests", per="speaker", parameters=["lhuc"])
    assert sorted(read_speakers(tmp_path / "voices")) == ["anna", "bert"]
    listed = tmp_path / "voices" / "adapters.json"
    listed.write_text(json.dumps({"format": 1, "speakers": {"anna": "0001"}}))
    found = decode_manifest(tmp_path / "manifests", "adaptation", finished_demo / "sat", finished_demo / "graph",
                            tmp_path / "out", network=finished_demo / "student-kd-seed1", adapter=tmp_path / "voices")
    assert found["adapted"]["utterances"] == {
        "adapted": len(two) // 2, "unadapted": len(two) - len(two) // 2, "refused": 0}


def two_speakers(demo: Path, folder: Path) -> list[Utterance]:
    """Manifests in which the demo's adaptation speaker passes for two; returns their utterances."""
    two = [replace(one, speaker="anna" if number % 2 else "bert") for number, one in enumerate(speech(demo))]
    write_manifest(folder, "adaptation", two)
    return two


def test_an_interrupted_call_keeps_the_speakers_that_it_finished(
        finished_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_speakers(finished_demo, tmp_path / "manifests")
    settings: dict[str, Any] = {"speech": tmp_path / "manifests", "per": "speaker", "set_": ONE_EPOCH, "workers": 1}
    adapted(finished_demo, tmp_path / "whole", **settings)
    voices = tmp_path / "voices"

    def end(folder: Path, folders: dict[str, str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adaptation_job, "end_speakers", end)
        with pytest.raises(KeyboardInterrupt):
            adapted(finished_demo, voices, **settings)
    with pytest.raises(InputError, match="no adapter"):
        decoded(finished_demo, tmp_path / "out", voices)
    shutil.rmtree(voices / "0002")
    shutil.copytree(voices / "0001", voices / "0009")
    first = (voices / "0001" / "adapter.json").stat().st_mtime_ns
    adapted(finished_demo, voices, **settings)
    assert (voices / "0001" / "adapter.json").stat().st_mtime_ns == first
    assert sorted(folder.name for folder in voices.iterdir() if folder.is_dir()) == ["0001", "0002"]
    for name in ("0001/adapter.json", "0002/adapter.json", "adapters.json", "0002/report.json"):
        assert (voices / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    adapted(finished_demo, voices, **{**settings, "seed": 1})
    assert (voices / "0001" / "adapter.json").stat().st_mtime_ns != first


def test_seconds_are_taken_of_each_speaker_and_the_rest_is_listed(finished_demo: Path, tmp_path: Path) -> None:
    two = two_speakers(finished_demo, tmp_path / "manifests")
    report = adapted(finished_demo, tmp_path / "voices", speech=tmp_path / "manifests", per="speaker", seconds=0.5,
                     rest=tmp_path / "rest", parameters=["lhuc"], set_=ONE_EPOCH)
    first = {"bert": two[0].id, "anna": two[1].id}
    learnt = {speaker: Adapter.load(folder).card.made_from.utterances
              for speaker, folder in read_speakers(tmp_path / "voices").items()}
    assert learnt == {speaker: [name] for speaker, name in first.items()}
    assert all(one["utterances"] == 1 for one in report["speakers"].values())
    left_over = [utterance.id for utterance in read_manifest(tmp_path / "rest", "rest")]
    assert left_over == sorted({one.id for one in two} - set(first.values()))
    found = decode_manifest(tmp_path / "rest", "rest", finished_demo / "sat", finished_demo / "graph",
                            tmp_path / "out", network=finished_demo / "student-kd-seed1", adapter=tmp_path / "voices")
    assert found["adapted"]["utterances"]["adapted"] == len(left_over)
    with pytest.raises(InputError, match="expected more than none"):
        adapted(finished_demo, tmp_path / "none", seconds=0)
    with pytest.raises(InputError, match="no utterance is left over"):
        adapted(finished_demo, tmp_path / "none", rest=tmp_path / "nothing")


def test_silence_and_clipped_audio_are_dropped_and_counted(finished_demo: Path, tmp_path: Path) -> None:
    utterances = speech(finished_demo)
    lines = []
    for number, utterance in enumerate(utterances):
        samples, rate = read_utterance(utterance)
        if number == 0:
            samples = np.zeros_like(samples)
        if number == 1:
            samples = np.clip(samples, -np.percentile(np.abs(samples), 90), np.percentile(np.abs(samples), 90))
        soundfile.write(tmp_path / f"{utterance.id}.wav", samples / 32768, rate, subtype="PCM_16")
        lines.append(json.dumps({"audio": f"{utterance.id}.wav", "text": utterance.text}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    report = adapted(finished_demo, tmp_path / "voice", speech=tmp_path / "list.jsonl", split=None)
    assert report["faulty_audio"]["dropped"] == {"clipped": 1, "silence": 1}
    assert report["utterances"] == len(utterances) - 2
    (tmp_path / "list.jsonl").write_text(lines[0])
    with pytest.raises(InputError, match="no speech to adapt to"):
        adapted(finished_demo, tmp_path / "none", speech=tmp_path / "list.jsonl", split=None)


def test_words_without_pronunciation_are_listed_or_mapped(finished_demo: Path, tmp_path: Path) -> None:
    utterances = speech(finished_demo)
    (tmp_path / "text").write_text("".join(f"{one.id} {one.text} XYZZY\n" for one in utterances))
    with pytest.raises(InputError, match="1 words of the transcripts have no pronunciation: 'XYZZY'"):
        adapted(finished_demo, tmp_path / "voice", transcripts=tmp_path / "text")
    assert not (tmp_path / "voice").exists()
    report = adapted(finished_demo, tmp_path / "voice", transcripts=tmp_path / "text", map_unknown=True, set_=ONE_EPOCH)
    assert report["teaching"] == "both" and report["utterances"] == len(utterances)


@pytest.mark.parametrize(("settings", "message"), [
    ({"system": "hdnn128-kg"}, "no system 'hdnn128-kg'.*hdnn128-kd"),
    ({"system": "gmm-sat"}, "has no network"),
    ({"system": None}, "name it by --system"),
    ({"run": None}, "--network, --model, --graph are missing"),
    ({"split": "test"}, "is speech of test"),
    ({"parameters": ["gate"]}, "group 'gate'"),
    ({"set_": ["adaptation.kl_wait=1"]}, "kl_weight"),
    ({"speaker": "nobody"}, "no speech of speaker 'nobody'"),
    ({"set_": ["adaptation.replay_share=0.5"], "reserve": Path("none")}, "none"),
])
def test_what_does_not_belong_together_is_refused_and_nothing_is_written(
        finished_demo: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapted(finished_demo, tmp_path / "voice", **settings)
    assert not (tmp_path / "voice").exists()


def test_each_teaching_teaches_something_else(finished_demo: Path, tmp_path: Path) -> None:
    found = []
    for teach in ("transcripts", "teacher", "first-pass", "both"):
        report = adapted(finished_demo, tmp_path / teach, teach=teach, set_=ONE_EPOCH)
        assert report["teaching"] == teach and report["utterances"] == len(speech(finished_demo))
        found.append(Adapter.load(tmp_path / teach).tensors["carry_gate.weight"].numpy())
    assert not any(np.array_equal(one, other) for one, other in combinations(found, 2))


def test_another_sampling_rate_is_refused_and_converted_when_asked(finished_demo: Path, tmp_path: Path) -> None:
    utterances = speech(finished_demo)[:2]
    rows = []
    for utterance in utterances:
        samples, rate = read_utterance(utterance)
        stereo = np.stack([resample_poly(samples, 2, 1)] * 2, axis=1)
        soundfile.write(tmp_path / f"{utterance.id}.wav", stereo / 32768, 2 * rate, subtype="PCM_16")
        rows.append(json.dumps({"audio": f"{utterance.id}.wav", "text": utterance.text}))
    (tmp_path / "list.jsonl").write_text("\n".join(rows))
    given: dict[str, Any] = {"speech": tmp_path / "list.jsonl", "split": None, "set_": ONE_EPOCH}
    with pytest.raises(AsrKdError, match="channels"):
        adapted(finished_demo, tmp_path / "voice", **given)
    with pytest.raises(AsrKdError, match="sampling rate"):
        adapted(finished_demo, tmp_path / "voice", **given, mix_down=True)
    assert not (tmp_path / "voice").exists()
    report = adapted(finished_demo, tmp_path / "voice", **given, mix_down=True, resample=True)
    assert report["utterances"] == 2


def test_the_speech_of_one_speaker_is_taken_up_to_the_seconds(finished_demo: Path, tmp_path: Path) -> None:
    utterances = speech(finished_demo)
    two = [replace(one, speaker="anna" if number else "bert") for number, one in enumerate(utterances)]
    write_manifest(tmp_path / "manifests", "adaptation", two)
    # The second is the one in which the seconds end: it is taken whole.
    seconds = two[1].duration + 0.01
    report = adapted(finished_demo, tmp_path / "voice", speech=tmp_path / "manifests", speaker="anna", seconds=seconds,
                     set_=ONE_EPOCH)
    assert Adapter.load(tmp_path / "voice").card.made_from.utterances == [one.id for one in two[1:3]]
    assert report["utterances"] == 2


def test_an_adapter_is_replaced_and_any_other_folder_is_not(finished_demo: Path, voice: Path, tmp_path: Path) -> None:
    shutil.copytree(voice, tmp_path / "voice")
    adapted(finished_demo, tmp_path / "voice", set_=ONE_EPOCH, parameters=["biases"])
    assert Adapter.load(tmp_path / "voice").card.parameters == ["biases"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    for folder in ("thesis", "voice"):
        with pytest.raises(InputError, match="is no"):
            adapted(finished_demo, tmp_path / folder, per="set" if folder == "thesis" else "speaker")
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"


def test_a_speaker_who_cannot_be_adapted_to_does_not_cost_the_others(finished_demo: Path, tmp_path: Path) -> None:
    utterances = speech(finished_demo)
    two = [replace(one, speaker="anna") if number % 2 else replace(one, speaker="bert", text="")
           for number, one in enumerate(utterances)]
    write_manifest(tmp_path / "manifests", "adaptation", two)
    report = adapted(finished_demo, tmp_path / "voices", speech=tmp_path / "manifests", per="speaker", set_=ONE_EPOCH)
    assert sorted(report["speakers"]) == ["anna"] == sorted(read_speakers(tmp_path / "voices"))
    assert "no utterance has a transcript" in report["failures"]["bert"]
    write_manifest(tmp_path / "none", "adaptation", [replace(one, text="") for one in two])
    with pytest.raises(InputError, match="no utterance has a transcript"):
        adapted(finished_demo, tmp_path / "nothing", speech=tmp_path / "none", per="speaker", teach="transcripts")
    assert not (tmp_path / "nothing").exists()


def test_speech_of_the_runs_test_is_refused_without_naming_the_run(finished_demo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is speech of test"):
        adapted(finished_demo, tmp_path / "voice", run=None, system=None, split="test",
                network=finished_demo / "student-kd-seed1", model=finished_demo / "sat", graph=finished_demo / "graph")
    with pytest.raises(InputError, match="said by --teach"):
        adapted(finished_demo, tmp_path / "voice", set_=["teaching.teaching=first-pass"])
