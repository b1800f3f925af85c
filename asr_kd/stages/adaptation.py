"""Adaptation of a network to any small set of speech: what `asr-kd adapt` does."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from asr_kd.adaptation.adapter import (
    ADAPTER,
    ADAPTERS,
)
from asr_kd.core.config import Settings, build_config, nearest_name
from asr_kd.core.drops import Drops
from asr_kd.core.errors import AsrKdError, InputError
from asr_kd.core.files import hash_file, list_files
from asr_kd.core.own_folders import check_replaceable
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import Utterance, read_manifest, write_manifest
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.scoring.teaching import Teaching, learns_transcripts
from asr_kd.stages.adaptation_job import AdaptOptions, LoadedSystem
from asr_kd.stages.folder_kinds import GRAPH, HMM_MODEL, NETWORK, require_kind
from asr_kd.stages.listening import listen
from asr_kd.stages.speech_input import SpeechInput, read_speech
from asr_kd.stages.systems import RunSystem, find_judged_speech, find_system
from asr_kd.stages.tuned_weights import find_tuned_weights

REST = "rest"  # split of the utterances that were not adapted to


class AdapterRefused(AsrKdError):
    """Raised by the command when all is done: the adapter was refused, it is kept and not active (exit code 3)."""

    exit_code = 3


def adapt_network(
    speech: Path,
    output: Path,
    run: Path | None = None,
    system: str | None = None,
    network: Path | None = None,
    model: Path | None = None,
    graph: Path | None = None,
    teacher: Path | None = None,
    reserve: Path | None = None,
    split: str | None = None,
    transcripts: Path | None = None,
    speaker: str | None = None,
    seconds: float | None = None,
    rest: Path | None = None,
    teach: Literal["auto", "transcripts", "first-pass", "teacher", "both"] = "auto",
    per: Literal["set", "speaker"] = "set",
    parameters: list[str] | None = None,
    gate: bool = True,
    map_unknown: bool = False,
    resample: bool = False,
    mix_down: bool = False,
    seed: int = 0,
    set_: list[str] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Adapt a network to a small set of speech, judge the adapter and write it to `output`; returns its report.

    The network is that of the `system` of a finished `run`, whose HMM model, graph, teacher and reserve go with it; or
    the bundle `network` with its HMM `model` and `graph`. `speech`, `split`, `transcripts` and `speaker`: see
    `read_speech`; of speech that names its speakers only that of `speaker` is taken, and of that (of each speaker, with
    `per` speaker) the first `seconds`; `rest` gets manifests of what is left over, to be decoded.
    `teach`: what is learnt; auto takes transcripts where there are any and the teacher where there is one, without
    either the network's own first pass. A network or teacher that hears features adapted to speakers is given
    transforms of a first pass over this very speech. `per` speaker makes an adapter for each, in a folder that
    `adapters.json` lists.

    With `gate` (the reserve, where there is one, gives it its canary) an adapter that does not prove itself is written,
    but is not active, and its report says why. `set_`: `KEY=VALUE` for the other settings
    (`AdaptOptions`). An adapter in `output` is replaced, any other folder refused. InputError for what does not belong
    together, for words without pronunciation unless `map_unknown`, and for speech of the run's own dev and test with
    transcripts.
    """
    found = _found_system(run, system, network, model, graph, teacher, reserve)
    check_replaceable(Path(output), ADAPTER if per == "set" else ADAPTERS)
    options = _options(parameters, map_unknown, set_)
    audio = AudioOptions(resample=resample, mix_down=mix_down)
    with tempfile.TemporaryDirectory() as scratch, one_torch_thread():
        given = read_speech(Path(speech), Path(scratch) / "given", split=split, transcripts=transcripts,
                            speaker=speaker)
        given, left_over = _chosen(given, speaker, seconds, per)
        if rest is not None:
            _write_rest(Path(rest), left_over)
        given, warnings = listen(given, audio, workers)
        supervised = any(utterance.text for utterance in given.utterances)
        teaching = _choose_teaching(teach, supervised, found)
        if learns_transcripts(teaching):
            _refuse_judged_speech(given.utterances, found)
        options = options.model_copy(update={
            "teaching": options.teaching.model_copy(update={"teaching": teaching})})
        job = LoadedSystem.open(found, options).job(given, audio, Path(scratch), workers)
        job.warnings.extend(warnings)
        if per == "set":
            return job.adapt(given.utterances, speaker or split or Path(speech).name, Path(output), gate, seed, workers)
        return job.adapt_speakers(Path(output), gate, seed)


def _found_system(
    run: Path | None, system: str | None, network: Path | None, model: Path | None, graph: Path | None,
    teacher: Path | None, reserve: Path | None,
) -> RunSystem:
    """What is adapted, and what goes with it; what is given takes the place of what the run has."""
    for folder, kind, option in ((network, NETWORK, "--network"), (model, HMM_MODEL, "--model"),
                                 (graph, GRAPH, "--graph"), (teacher, NETWORK, "--teacher")):
        require_kind(folder, kind, option)
    if run is not None:
        if system is None:
            raise InputError("a run is given, but not which of its systems is to be adapted; name it by --system")
        found = find_system(run, system)
        return replace(found, network=network or found.network, model=model or found.model, graph=graph or found.graph,
                       teacher=teacher or found.teacher, reserve=reserve or found.reserve)
    given = {"--network": network, "--model": model, "--graph": graph}
    missing = [name for name, folder in given.items() if folder is None]
    if missing:
        raise InputError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; give --run and "
                         "--system, or a network with its model and its graph")
    assert network is not None and model is not None and graph is not None
    tuned = find_tuned_weights(Path(model), Path(graph), Path(network))
    manifests, judged_on = (None, ()) if tuned is None else find_judged_speech(tuned.score)
    return RunSystem(Path(network).name, Path(network), Path(model), Path(graph), manifests, teacher, reserve,
                     judged_on)


def _chosen(
    given: SpeechInput, speaker: str | None, seconds: float | None, per: Literal["set", "speaker"]
) -> tuple[SpeechInput, list[Utterance]]:
    """The utterances of this speaker alone, of these the first that last `seconds` together, the last included; and the
    speaker's other ones. `per` speaker takes so many seconds of each.

    InputError: no such speaker, no seconds.
    """
    speakers = {utterance.speaker for utterance in given.utterances}
    own = [utterance for utterance in given.utterances if speaker in (None, utterance.speaker)]
    if not own:
        raise InputError(f"no speech of speaker {speaker!r}; {nearest_name(str(speaker), sorted(speakers))}")
    if seconds is not None and seconds <= 0:
        raise InputError(f"--seconds {seconds:g}: expected more than none")
    kept: list[Utterance] = []
    left_over: list[Utterance] = []
    begun: dict[str, float] = {}
    for utterance in own:
        part = utterance.speaker if per == "speaker" else ""
        before = begun.get(part, 0.0)
        (kept if seconds is None or before < seconds else left_over).append(utterance)
        begun[part] = before + utterance.duration
    return given if len(kept) == len(given.utterances) else SpeechInput(kept, Drops(len(kept), cap=1.0)), left_over


def _write_rest(folder: Path, utterances: Sequence[Utterance]) -> None:
    """Manifests with the utterances that are not adapted to. InputError: there are none."""
    if not utterances:
        raise InputError("--rest: no utterance is left over; give --seconds less than there is speech")
    write_manifest(folder, REST, utterances)


def _options(parameters: list[str] | None, map_unknown: bool, set_: Sequence[str] | None) -> AdaptOptions:
    values: dict[str, Any] = {"adaptation": {"parameters": parameters}} if parameters else {}
    if map_unknown:
        values["teaching"] = {"alignment": {"map_unknown": True}}
    settings = Settings(values, {})
    for assignment in set_ or ():
        if assignment.partition("=")[0] == "teaching.teaching":
            raise InputError(f"--set {assignment}: what teaches is said by --teach")
        settings = settings.with_override(assignment)
    return build_config(AdaptOptions, settings)


def _refuse_judged_speech(utterances: Sequence[Utterance], found: RunSystem) -> None:
    """InputError for transcribed speech by which the run's systems are judged, whatever its files are called now."""
    if found.manifests is None:
        return
    sizes = {utterance.audio.stat().st_size for utterance in utterances}
    given: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        given.setdefault(hash_file(utterance.audio), []).append(utterance)
    for split in found.judged_on:
        for judged in read_manifest(found.manifests, split):
            if not judged.audio.is_file() or judged.audio.stat().st_size not in sizes:
                continue
            for utterance in given.get(hash_file(judged.audio), []):
                if _overlap(utterance, judged):
                    raise InputError(f"{utterance.id}: is speech of {split} ({judged.id}), by which the run's systems "
                                     "are judged; its transcripts may not be learnt: adapt to other speech, or let the "
                                     "teacher or a first pass teach")


def _overlap(first: Utterance, second: Utterance) -> bool:
    """Return True where two stretches of one recording have some time in common."""
    begin = max(first.start, second.start)
    return begin < min(first.start + first.duration, second.start + second.duration)


def _choose_teaching(teach: str, supervised: bool, found: RunSystem) -> Teaching:
    if teach in ("transcripts", "both") and not supervised:
        raise InputError("no utterance has a transcript; give --transcripts, or teach by first-pass or teacher")
    if teach in ("teacher", "both") and found.teacher is None:
        raise InputError(f"the system {found.id} was not taught by a teacher of this run; give one by --teacher")
    if teach != "auto":
        return teach  # type: ignore[return-value]
    if supervised:
        return "transcripts" if found.teacher is None else "both"
    return "first-pass" if found.teacher is None else "teacher"


def adapter_bytes(output: Path) -> int:
    """Bytes of all files of an adapter."""
    return sum(path.stat().st_size for path in list_files(output))
