"""Speech at other speeds: more of it to train on (Ko et al., Interspeech 2015, as Kaldi and Lhotse do it)."""

from dataclasses import replace

from asr_kd.data.manifest import Source, Utterance, speed_mark


def perturb_speed(utterance: Utterance, factor: float) -> Utterance:
    """Copy an utterance as it is played `factor` times as fast, by a speaker of its own.

    `_spFACTOR` stands behind all ids, as Lhotse names them; the field `source` says what it is a copy of. Audio is
    resampled when it is read. ValueError: a factor that is not above 0, an utterance that is perturbed already.
    """
    if factor <= 0:
        raise ValueError(f"factor is {factor}, expected above 0")
    if utterance.speed != 1:
        raise ValueError(f"utterance {utterance.id} is not played at the speed of its file already")
    mark = speed_mark(factor)

    def samples(seconds: float) -> int:
        """Whole samples, so that times survive being written and read."""
        return round(seconds / factor * utterance.sampling_rate)

    begin, end = samples(utterance.start), samples(utterance.start + utterance.duration)
    return replace(
        utterance, id=utterance.id + mark, speaker=utterance.speaker + mark,
        recording=utterance.recording and utterance.recording + mark,
        start=begin / utterance.sampling_rate, duration=(end - begin) / utterance.sampling_rate,
        recording_duration=samples(utterance.recording_duration) / utterance.sampling_rate, speed=factor,
        source=Source(utterance.id, utterance.speaker))
