"""Sound of one media file: mono 16 kHz waveform, and the log-mel picture that AST reads.

In: a path; out: float16 [1024, 128], or None where there is no sound. The spectrogram is what AVIGATE's loader gets
from torchaudio's Kaldi fbank, with the frame shift stretched so that the whole track spans 1,024 frames;
kaldi-native-fbank computes it here.
"""

import av
import kaldi_native_fbank as knf
import numpy as np

from data_prep.video import MediaError, open_media
from save_jax.data.records import FBANK_SHAPE

SAMPLE_RATE = 16000
_WINDOW_MS = 25
_MEAN, _STD = -5.118, 3.2527153  # AST's AudioSet statistics; the reference divides by twice the deviation


def waveform(path: str) -> np.ndarray | None:
    """float32 [samples], mono, 16 kHz, in [-1, 1]; None without a sound track or with an empty one.

    Raises MediaError where the file cannot be opened or holds a sound track of which nothing decodes.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            return None
        resampler, made_for, pieces, packets, reason = None, None, [], 0, ""
        for packet in container.demux(container.streams.audio[0]):
            packets += bool(packet.size)
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:  # a bad packet is a short gap in the sound
                reason = str(error.strerror)
                continue
            for frame in frames:
                source = (frame.format.name, frame.layout.name, frame.sample_rate)
                if source != made_for:  # AAC may turn from mono to stereo after its first frames
                    pieces += _flush(resampler)
                    # FFmpeg weights channels by √½ between mono and stereo in either direction. One channel therefore
                    # stays one, more become two, and the mean is taken here: equal content gives equal loudness.
                    layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
                    resampler, made_for = av.AudioResampler("fltp", layout, SAMPLE_RATE), source
                pieces += [_mono(part) for part in resampler.resample(frame)]
        pieces += _flush(resampler)
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if not len(samples) and reason:
        raise MediaError(f"{path}: none of the sound track's {packets} packets can be decoded ({reason})")
    return samples if len(samples) else None


def _flush(resampler: av.AudioResampler | None) -> list[np.ndarray]:
    return [_mono(part) for part in resampler.resample(None)] if resampler else []


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """Planar float32 [channels, samples] → [samples]."""
    return frame.to_ndarray().mean(axis=0)


def fbank(samples: np.ndarray) -> np.ndarray:
    """float32 [samples] at 16 kHz → float16 [1024, 128], normalised. Rows beyond the sound's end are 0 in log-mel."""
    return log_mel(samples).astype(np.float16)


def window_shift(samples: int) -> int:
    """Samples from one window to the next, so that a sound of this length spans 1,024 windows."""
    return samples // FBANK_SHAPE[0]


def kaldi_options(shift: int) -> knf.FbankOptions:
    """The settings of AVIGATE's call of torchaudio's Kaldi fbank."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.frame_length_ms = _WINDOW_MS
    options.frame_opts.frame_shift_ms = shift * 1000 / SAMPLE_RATE  # a whole number of samples
    options.frame_opts.window_type = "hanning"
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = FBANK_SHAPE[1]
    options.use_energy = False
    options.htk_compat = True
    return options


def log_mel(samples: np.ndarray) -> np.ndarray:
    """As `fbank`, before rounding to float16."""
    rows = FBANK_SHAPE[0]
    samples = samples - samples.mean()
    # Under 1,024 samples the shift would be 0, where the reference stops with an assertion.
    samples = np.pad(samples, (0, max(0, rows - len(samples))))
    kaldi = knf.OnlineFbank(kaldi_options(window_shift(len(samples))))
    kaldi.accept_waveform(SAMPLE_RATE, samples)
    kaldi.input_finished()
    mel = np.zeros(FBANK_SHAPE, np.float32)
    for row in range(min(rows, kaldi.num_frames_ready)):
        mel[row] = kaldi.get_frame(row)
    return (mel - _MEAN) / (2 * _STD)
