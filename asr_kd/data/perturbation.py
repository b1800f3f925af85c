"""Speech at other speeds: more of it to train on (Ko et al., Interspeech 2015, as Kaldi and Lhotse do it)."""

import re
from dataclasses import replace

from asr_kd.data.manifest import Utterance

_MARK = re.compile(r"_sp\d+(\.\d+)?$")


def perturb_speed(utterance: Utterance, factor: float) -> Utterance:
    """The utterance played `factor` times as fast, by a speaker of its own: `_spFACTOR` behind all ids, as Lhotse
    names them. Audio is resampled when it is read. ValueError: a factor that is not above 0, an utterance that is
    perturbed already."""
    if factor <= 0:
        raise ValueError(f"factor is {factor}, expected above 0")
    if utterance.speed != 1:
        raise ValueError(f"utterance {utterance.id} is not played at the speed of its file already")
    mark = f"_sp{factor:g}"

    def samples(seconds: float) -> int:
        """Whole samples, so that times survive being written and read."""
        return round(seconds / factor * utterance.sampling_rate)

    begin, end = samples(utterance.start), samples(utterance.start + utterance.duration)
    return replace(
        utterance, id=utterance.id + mark, speaker=utterance.speaker + mark,
        recording=utterance.recording and utterance.recording + mark,
        start=begin / utterance.sampling_rate, duration=(end - begin) / utterance.sampling_rate,
        recording_duration=samples(utterance.recording_duration) / utterance.sampling_rate, speed=factor)


def unperturbed(speaker: str) -> str:
    """The speaker that a perturbed one (`perturb_speed`) was made of; one whose own id ends like theirs is taken for
    such."""
    return _MARK.sub("", speaker)
