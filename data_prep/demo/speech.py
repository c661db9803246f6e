"""Speaks a sentence with espeak-ng: text, voice and speed in, mono float samples at 22,050 Hz out.

Library and voices come in the espeakng-loader wheel, so no system package is needed. Linux and macOS.
"""

import ctypes

import espeakng_loader
import numpy as np

SPEECH_RATE = 22050

# Names and numbers from espeak-ng's speak_lib.h.
_SYNCHRONOUS_OUTPUT = 2
_DONT_EXIT = 0x8000  # without it a missing voice folder ends the whole process
_CHARS_UTF8 = 1
_RATE = 1
_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(sentence: str, voice: str, speed: int) -> np.ndarray:
    """The spoken sentence, peak 1. Speed: words a minute as espeak-ng counts them; short words come out faster."""
    samples = _synthesise(sentence, voice, speed)
    return samples / np.abs(samples).max()


def _synthesise(sentence: str, voice: str, speed: int) -> np.ndarray:
    """One utterance from a freshly loaded library.

    espeak-ng keeps counters (flutter, noise) from one utterance to the next, which even espeak_Terminate leaves as they
    are. A sentence would sound different depending on what the process said before, and a corpus would depend on the
    number of worker processes. So the library is unloaded after each sentence (6 ms in all), and its noise, which it
    seeds with the time of day, is seeded again.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        return _utter(library, sentence, voice, speed)
    finally:
        libc = ctypes.CDLL(None)
        libc.dlclose.argtypes = [ctypes.c_void_p]
        libc.dlclose(library._handle)


def _utter(library: ctypes.CDLL, sentence: str, voice: str, speed: int) -> np.ndarray:
    pieces: list[np.ndarray] = []

    def on_samples(samples, count: int, _events) -> int:
        if samples and count:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = _ON_SAMPLES(on_samples)  # must stay referenced while the library may call it
    folder = str(espeakng_loader.get_data_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS_OUTPUT, 0, folder.encode(), _DONT_EXIT)
    if rate != SPEECH_RATE:
        raise RuntimeError(
            f"espeak-ng did not start with the voices in {folder} (returned {rate}, expected {SPEECH_RATE}); "
            "its limit for that path is about 150 characters, so a shorter virtual environment path may help"
        )
    try:
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}; known names are the files in {folder}/lang and voices")
        library.espeak_SetParameter(_RATE, speed, 0)
        text = sentence.encode()
        library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
    finally:
        library.espeak_Terminate()
    return np.concatenate(pieces) / 32768.0
