"""Scoring files: load, count, judge. `asr-kd score` is this function on the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.scoring.bootstrap import SpeakerDraws, compare, draw_speakers, wer_interval
from asr_kd.scoring.calibration import Calibration, fit_calibration, read_calibration, write_calibration
from asr_kd.scoring.confidence import measure_confidence, word_confidences
from asr_kd.scoring.evaluation_set import EvaluationSet, distinct, load_evaluation_set
from asr_kd.scoring.hints import form_hints
from asr_kd.scoring.hypotheses import FileFormat, Hypotheses
from asr_kd.scoring.meetings import Streams, read_meetings, score_meetings
from asr_kd.scoring.notation import OptionalWords
from asr_kd.scoring.scores import Metric, Score, SystemScore
from asr_kd.scoring.text_filter import TextFilter, UnicodeForm, find_filter
from asr_kd.scoring.wer import Alignment


def score(
    ref: Path,
    hyp: list[Path],
    against: list[Path] | None = None,
    utt2spk: Path | None = None,
    metric: Metric = "wer",
    alignment: Alignment = "unit",
    filter: str = "none",
    ref_format: FileFormat | None = None,
    format: FileFormat | None = None,
    alignments: Path | None = None,
    trn: Path | None = None,
    text: Path | None = None,
    words: int | None = None,
    partial: bool = False,
    confidence: bool = False,
    calibration: Path | None = None,
    fit: Path | None = None,
    draws: int | None = None,
    seed: int = 0,
    optional_words: OptionalWords = "refuse",
    unicode_form: UnicodeForm = "keep",
) -> Score:
    """Score hypothesis files (one for each seed of a system) against a reference; Kaldi text, trn, CTM or STM.

    Formats come from the names (`.trn`, `.ctm`, `.stm`, text else), or from `ref_format` and `format` (all
    hypotheses). A CTM is cut by time where the reference is an STM; else its first field is the utterance's id.
    Speakers come from an STM reference, from `utt2spk`, else from a file of that name beside the reference, else from
    trn ids; where none is known, utterances are drawn. `metric` "cpwer": streams against speakers of recordings (STM
    reference; MeetEval). `alignment` "sclite": costs 4/3/3. `filter`: one of `scoring.text_filter`'s.
    `alignments` is a file to write (`-`: standard output), `trn` and `text` are folders that get reference and
    hypotheses in that format. A reference utterance without hypothesis counts as deletions; with `partial` only the
    utterances that every hypothesis file has are scored. `words` is the number of reference words of the whole set,
    as they are written. `confidence`: measure the confidences of a CTM; `calibration`: also through that map; `fit`:
    fit a map to the first system, and write it there. `draws` of speakers and seeds are taken for intervals and
    p-values, 100,000 by default; the n-th file of either system counts as the same seed. `optional_words`: how `(uh)`
    in an STM or trn reference is taken, see `scoring.notation`; `unicode_form` "nfc" composes the words of both sides
    first. InputError: hypothesis ids not in the reference, another number of words (but for `partial`), options that
    exclude each other, unreadable files.
    """
    text_filter = find_filter(filter, unicode_form)
    if metric == "cpwer":
        _refuse_for_meetings(
            utt2spk=utt2spk, alignments=alignments, trn=trn, text=text, confidence=confidence or None,
            calibration=calibration, fit=fit, alignment=None if alignment == "unit" else alignment,
        )
        return _score_recordings(
            ref, hyp, against or [], text_filter, ref_format, format, words, partial, draws, seed
        )
    whole = load_evaluation_set(
        ref, hyp, against or [], utt2spk, ref_format=ref_format, format=format, text_filter=text_filter,
        alignment=alignment, partial=partial, optional_words=optional_words,
    )
    _check_words(ref, whole.whole.num_words, f"{len(whole.references)} utterances", words, partial)
    part = whole.covered() if partial else whole
    drawn = draw_speakers(part.words_by_speaker(), draws, seed)
    words_differ = bool(part.whole.notation)
    mapping = None if calibration is None else read_calibration(calibration)
    measured = confidence or mapping is not None or fit is not None
    system = _score_system(part, part.hypotheses, drawn, measured, mapping)
    other = _score_system(part, part.against, drawn, measured, mapping) if part.against else None
    fitted = None if fit is None else fit_calibration(
        word_confidences(part, part.hypotheses), text_filter=text_filter.label, alignment=alignment
    )
    part.export(trn, "trn")
    part.export(text, "text")
    part.write_alignments(alignments)
    if fit is not None and fitted is not None:
        write_calibration(fit, fitted)
    return Score(
        system=system,
        against=other,
        comparison=None if other is None else compare(
            drawn.of(system.seeds, words_differ=words_differ), drawn.of(other.seeds, words_differ=words_differ)
        ),
        unit=part.unit,
        utterances=len(part.references),
        words=part.num_words,
        reference_utterances=len(whole.references),
        reference_words=whole.num_words + max(0, (words or 0) - whole.whole.num_words),
        metric=metric,
        alignment=alignment,
        text_filter=text_filter.label,
        hints=part.hints(),
    )


def _score_system(
    part: EvaluationSet,
    files: Mapping[str, Hypotheses],
    drawn: SpeakerDraws,
    measured: bool,
    mapping: Calibration | None,
) -> SystemScore:
    seeds = {number: part.count(file) for number, file in enumerate(files.values())}
    raw = calibrated = None
    if measured:
        measurements = word_confidences(part, files)
        raw = measure_confidence(measurements.confidence, measurements.correct)
        if mapping is not None:
            calibrated = measure_confidence(mapping(measurements.confidence), measurements.correct)
    return SystemScore(
        seeds,
        wer_interval(drawn.of(seeds, words_differ=bool(part.whole.notation))),
        [sorted(part.references.keys() - file.words.keys()) for file in files.values()],
        [file.outside for file in files.values()],
        [file.ignored for file in files.values()],
        raw,
        calibrated,
    )


def _score_recordings(
    ref: Path, hyp: list[Path], against: list[Path], text_filter: TextFilter, ref_format: FileFormat | None,
    format: FileFormat | None, words: int | None, partial: bool, draws: int | None, seed: int,
) -> Score:
    if not hyp:
        raise InputError("no hypothesis file given; expected --hyp FILE, once for each seed of the system")
    written = _num_words(read_meetings(ref, ref_format, TextFilter()))
    whole = read_meetings(ref, ref_format, text_filter)
    _check_words(ref, sum(written.values()), f"{len(written)} recordings", words, partial)
    files = {path: read_meetings(path, format, text_filter) for paths in (hyp, against) for path in distinct(paths)}
    kept = set(whole).intersection(*files.values()) if partial else set(whole)
    if not kept:
        raise InputError("no reference recording has a hypothesis in every file: no part to score")
    part = {name: streams for name, streams in whole.items() if name in kept}
    drawn = draw_speakers(_num_words(part), draws, seed)

    def judge(paths: list[Path]) -> SystemScore:
        errors = []
        for path in paths:
            known = {name: one for name, one in files[path].items() if name in kept or name not in whole}
            errors.append(score_meetings(part, known, str(path)))
        seeds = {number: {name: one.counts for name, one in seed.items()} for number, seed in enumerate(errors)}
        return SystemScore(
            seeds,
            wer_interval(drawn.of(seeds)),
            [sorted(kept - files[path].keys()) for path in paths],
            assignments=[{name: one.assignment for name, one in seed.items()} for seed in errors],
        )

    system = judge(hyp)
    other = judge(against) if against else None
    total = sum(_num_words(whole).values())
    return Score(
        system=system,
        against=other,
        comparison=None if other is None else compare(drawn.of(system.seeds), drawn.of(other.seeds)),
        unit="recording",
        utterances=len(part),
        words=sum(_num_words(part).values()),
        reference_utterances=len(whole),
        reference_words=total + max(0, (words or 0) - sum(written.values())),
        metric="cpwer",
        text_filter=text_filter.label,
        hints=form_hints(
            (words for streams in part.values() for words in streams.values()),
            {
                str(path): [words for streams in recordings.values() for words in streams.values()]
                for path, recordings in files.items()
            },
        ),
    )


def _num_words(recordings: Mapping[str, Streams]) -> dict[str, int]:
    return {name: sum(len(words) for words in streams.values()) for name, streams in recordings.items()}


def _check_words(ref: Path, found: int, place: str, expected: int | None, partial: bool) -> None:
    if expected is not None and expected != found and not (partial and expected > found):
        raise InputError(
            f"{ref}: {found} words in {place}, expected {expected}; "
            "give the whole reference, or --partial to mark the score as that of a part"
        )


def _refuse_for_meetings(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name} does not go with --metric cpwer")
