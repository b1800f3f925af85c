"""The process that loads espeak-ng: a request as JSON on stdin, samples or phonemes on stdout (demo_voice.py).

It needs the standard library only, so that it starts fast.
"""

import ctypes
import json
import os
import struct
import sys

# Of espeak-ng's speak_lib.h.
_RETRIEVAL, _DONT_EXIT, _CHARS_UTF8, _POSITION_CHARACTER = 1, 0x8000, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_NAMES_SEPARATED = ord("_") << 8


class _Espeak:
    """The C library; one object a process."""

    def __init__(self, library_path: str, data_path: str) -> None:
        self._library = library = ctypes.CDLL(library_path)
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = os.path.dirname(data_path).encode()
        self.rate: int = library.espeak_Initialize(_RETRIEVAL, 0, data, _DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError("espeak_Initialize failed")
        self._pieces: list[bytes] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._take)
        library.espeak_SetSynthCallback(self._callback)

    def set_voice(self, name: str) -> None:
        if self._library.espeak_SetVoiceByName(name.encode()):
            raise RuntimeError(f"espeak-ng has no voice {name}")

    def set_prosody(self, rate: int, pitch: int, pitch_range: int) -> None:
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def speak(self, text: str) -> bytes:
        self._pieces = []
        content = text.encode()
        self._library.espeak_Synth(content, ctypes.c_size_t(len(content) + 1), 0, _POSITION_CHARACTER, 0,
                                   _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return b"".join(self._pieces)

    def phonemes(self, text: str) -> str:
        pointer = ctypes.c_char_p(text.encode())
        clauses = []
        while pointer.value:
            found = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, _NAMES_SEPARATED)
            clauses.append(found.decode())
        return " ".join(clauses)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0


def _main() -> None:
    request = json.load(sys.stdin)
    espeak = _Espeak(request["library"], request["data"])
    if "phonemes" in request:
        espeak.set_voice(request["phonemes"]["voice"])
        print(json.dumps([espeak.phonemes(text) for text in request["phonemes"]["texts"]]))
        return
    output = sys.stdout.buffer
    output.write(struct.pack("<i", espeak.rate))
    for part in request["speak"]:
        voice = part["voice"]
        espeak.set_voice(voice["name"])
        espeak.set_prosody(voice["rate"], voice["pitch"], voice["range"])
        pieces: list[bytes] = []
        left = part["seconds"]
        for text in part["texts"]:
            if left <= 0:
                break
            pieces.append(espeak.speak(text))
            left -= len(pieces[-1]) / 2 / espeak.rate + part["gap"]
        output.write(struct.pack(f"<{len(pieces) + 1}i", len(pieces), *(len(piece) // 2 for piece in pieces)))
        output.writelines(pieces)


if __name__ == "__main__":
    _main()
