"""Log-mel against the authors' numbers; loudness must not depend on how many channels carry the same sound."""

import pathlib
import wave

import av
import kaldi_native_fbank as knf
import numpy as np
import pytest
from helpers import media, places

from data_prep import build
from data_prep.media import audio
from data_prep.media import samples as sound_track
from data_prep.media.decode import MediaError

GOLDEN = np.load(places.GOLDEN / "fbank.npz")
LOG_UNIT = 2 * 3.2527153  # the normalisation divides log-mel by this
PADDING = 5.118 / LOG_UNIT


@pytest.mark.parametrize("clip", ["sweep_3s", "clip_0p3s", "pad_3p072s", "silence_1s"])
def test_log_mel_matches_reference(clip):
    samples = GOLDEN[f"{clip}/wave_int16"].astype(np.float32) / 32768
    mel = audio.log_mel(samples)
    expected = GOLDEN[f"{clip}/ast_input_every4"]
    difference = np.abs(mel[::4] - expected)
    loud = expected * LOG_UNIT - 5.118 > np.log(1e-5)
    assert difference[loud].max(initial=0) < 2e-3 / LOG_UNIT
    assert difference.max() < 5e-3  # 0.03 log units: rounding in almost empty bins, in either program
    assert np.quantile(difference, 0.999) < 3e-3
    rows = int(GOLDEN[f"{clip}/frames_before_cut_or_pad"])
    assert (mel[rows:] == np.float32(PADDING)).all() and not (mel[min(rows, 1024) - 1] == np.float32(PADDING)).all()


def test_fbank_type_and_shortest_sound():
    for samples in (1, 400, 1023, 1024):
        fbank = audio.fbank(media.tone(16000, samples / 16000))
        assert fbank.dtype == np.float16 and fbank.shape == (1024, 128) and np.isfinite(fbank).all()
        assert (fbank[625:] == np.float16(PADDING)).all()  # 1 + (1024 - 400) windows fit


def test_same_sound_in_any_layout(tmp_path):
    reference = audio.log_mel(media.tone(16000, 2))
    loud = reference[:900] > -0.2
    assert loud.mean() > 0.02
    for rate, channels in ((48000, 2), (8000, 1), (44100, 1), (16000, 2)):
        path = media.write_media(
            tmp_path / f"{rate}_{channels}.wav", sound=media.tone(rate, 2), rate=rate, channels=channels
        )
        samples = audio.waveform(path)
        assert abs(len(samples) - 32000) < 100
        assert abs(np.abs(samples[8000:24000]).max() - 0.5) < 5e-3, (rate, channels)
        difference = np.abs(audio.log_mel(samples)[:900] - reference[:900])[loud]
        assert np.median(difference) < 5e-3 and difference.mean() < 2e-2, (rate, channels)


WIDTHS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4}


def write_wav(path: pathlib.Path, channels: list[np.ndarray], kind: str = "s16le") -> str:
    """float [samples] of each channel, at 16 kHz, whatever their number."""
    planes, width = np.stack(channels, axis=1), WIDTHS[kind]
    values = np.round(planes * (2 ** (8 * width - 1) - 1)).astype("<i8")
    if kind == "u8":
        values += 128
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels)), file.setsampwidth(width), file.setframerate(16000)
        file.writeframes(values.view(np.uint8).reshape(len(values), len(channels), 8)[..., :width].tobytes())
    return str(path)


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8, 9, 11, 16, 32, 60])
def test_any_number_of_channels(tmp_path, channels, kind):
    path = write_wav(tmp_path / "a.wav", [media.tone(16000, 1)] * channels, kind)
    samples = audio.waveform(path)
    assert len(samples) == 16000
    np.testing.assert_allclose(samples, media.tone(16000, 1), atol=0.02)


@pytest.mark.parametrize("channels", [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24])
def test_no_channel_is_lost(tmp_path, channels):
    """But for that of low effects, which FFmpeg leaves out on purpose: number 3 of 5.1 and 7.1."""
    silence = np.zeros(16000, np.float32)
    for number in range(channels):
        sounds = [media.tone(16000, 1) if k == number else silence for k in range(channels)]
        loudest = np.abs(audio.waveform(write_wav(tmp_path / "a.wav", sounds))).max()
        assert loudest > 0.4 / channels or (number == 3 and channels in (6, 8) and loudest == 0), number


@pytest.mark.parametrize("layout", ["5.1", "5.1(side)", "7.1", "quad", "3.0", "5.1.2", "7.1.4", "FL+LFE"])
def test_named_layouts_are_as_loud_as_mono(tmp_path, layout):
    path = str(tmp_path / "a.mka")
    with av.open(path, "w") as container:
        stream = container.add_stream("flac" if len(av.AudioLayout(layout).channels) < 9 else "pcm_s16le", rate=16000)
        stream.codec_context.layout = layout
        count = len(av.AudioLayout(layout).channels)
        packed = np.repeat(np.round(media.tone(16000, 1) * 32767).astype(np.int16), count)[None]
        frame = av.AudioFrame.from_ndarray(packed, "s16", layout)
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    np.testing.assert_allclose(audio.waveform(path)[1000:15000], media.tone(16000, 1)[1000:15000], atol=0.01)


def test_ambisonics_are_their_first_channel():
    """The others are directions."""
    planes = np.stack([media.tone(16000, 1), *[np.float32(0.3) * media.tone(16000, 1, 900)] * 3])
    frame = av.AudioFrame.from_ndarray(planes, "fltp", "ambisonic 1")
    frame.sample_rate = 16000
    assert not sound_track._is_mixed(frame.layout)
    np.testing.assert_array_equal(sound_track._mean(frame).to_ndarray()[0], planes[0])


def test_sound_of_a_video(tmp_path):
    frames = [media.numbered(k) for k in range(10)]
    path = media.write_media(tmp_path / "a.mp4", frames, sound=media.tone(48000, 1), rate=48000, channels=2)
    samples = audio.waveform(path)
    assert samples.dtype == np.float32 and abs(len(samples) - 16000) < 600
    assert abs(np.abs(samples[4000:12000]).max() - 0.5) < 0.05


def test_windows_of_a_long_track_are_picked_before_kaldi_sees_it():
    samples = np.random.default_rng(0).normal(0, 0.1, 30 * 16000 + 77).astype(np.float32) + np.float32(0.3)
    assert audio.window_shift(len(samples)) > 400
    kaldi = knf.OnlineFbank(audio.kaldi_options(audio.window_shift(len(samples))))
    kaldi.accept_waveform(16000, samples - samples.mean(dtype=np.float64).astype(np.float32))
    kaldi.input_finished()
    whole = np.array([kaldi.get_frame(row) for row in range(1024)])
    np.testing.assert_array_equal(audio.log_mel(samples), (whole + 5.118) / LOG_UNIT)


@pytest.mark.parametrize("seconds", [0.02, 3, 40])
def test_a_file_gives_the_log_mel_of_its_samples(tmp_path, monkeypatch, seconds):
    path = media.write_media(tmp_path / "a.wav", sound=media.tone(16000, seconds) + np.float32(0.2))
    expected = audio.fbank(audio.waveform(path))
    np.testing.assert_array_equal(audio.read_fbank(path), expected)
    monkeypatch.setattr(audio, "_IN_MEMORY", 1000)  # as for hours of sound: through a temporary file
    np.testing.assert_array_equal(audio.read_fbank(path), expected)


def test_blocks_join_to_the_waveform(tmp_path):
    path = media.write_media(tmp_path / "a.mp4", sound=media.tone(44100, 3.7), rate=44100, channels=2)
    samples = audio.waveform(path)
    for seconds in (0.25, 1, 1.5, 60):
        blocks = list(audio.blocks(path, seconds))
        size = round(16000 * seconds)
        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1) and 0 < len(blocks[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(blocks), samples)


def test_a_twentieth_of_a_second(tmp_path):
    path = media.write_media(tmp_path / "a.wav", sound=media.tone(16000, 0.05))
    samples = audio.waveform(path)
    assert len(samples) == 800
    fbank = audio.fbank(samples)
    assert np.isfinite(fbank).all() and fbank[:300].max() > 0.5


def test_no_sound(tmp_path):
    assert audio.waveform(media.write_media(tmp_path / "silent.mp4", [media.numbered(0)] * 5)) is None
    frames, nothing = [media.numbered(0)] * 5, np.zeros(0, np.float32)
    assert audio.waveform(media.write_media(tmp_path / "empty_track.mp4", frames, sound=nothing)) is None
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    assert audio.waveform(str(tmp_path / "empty.wav")) is None
    for name in ("silent.mp4", "empty_track.mp4", "empty.wav"):
        assert audio.read_fbank(str(tmp_path / name)) is None
        assert list(audio.blocks(str(tmp_path / name), 1)) == []
    with pytest.raises(MediaError, match="no such file"):
        audio.waveform(str(tmp_path / "missing.wav"))
    with pytest.raises(MediaError, match="no such file"):
        audio.read_fbank(str(tmp_path / "missing.wav"))


def test_sound_that_does_not_decode(tmp_path):
    path = pathlib.Path(media.write_media(tmp_path / "a.mp4", sound=media.tone(16000, 2)))
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    whole = bytearray(path.read_bytes())
    for at, size in places[10:12]:
        whole[at : at + size] = b"\xff" * size
    path.write_bytes(whole)
    assert 28000 < len(audio.waveform(str(path))) <= 33000  # a short gap costs the gap
    for at, size in places:
        whole[at : at + size] = b"\xff" * size
    path.write_bytes(whole)
    for read in (audio.waveform, audio.read_fbank):
        with pytest.raises(MediaError, match=r"a\.mp4: none of the sound track's \d+ packets can be decoded"):
            read(str(path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e5])
def test_one_impossible_sample(tmp_path, bad):
    """A float track can hold any number; one such sample would spoil all 1,024 windows."""
    for rate in (16000, 44100):  # as it is, and through a resampler
        sound = media.tone(rate, 2)
        sound[rate // 2] = bad
        path = media.write_media(tmp_path / "a.wav", sound=sound, rate=rate, sound_codec="pcm_f32le")
        for read in (audio.waveform, audio.read_fbank, lambda path: list(audio.blocks(path, 1))):
            with pytest.raises(MediaError, match=r"a\.wav: its sound holds a sample of .*, where 1 is full scale"):
                read(path)
    loud = media.write_media(tmp_path / "loud.wav", sound=100 * media.tone(16000, 2), sound_codec="pcm_f32le")
    assert np.isfinite(audio.read_fbank(loud)).all()  # too loud for players, but sound


def test_a_library_that_cannot_is_told_before_any_clip_loses_its_sound(monkeypatch, tmp_path, capsys):
    """As kaldi-native-fbank 1.23.0 does with 128 bins, with its message."""
    audio.check_library()  # the one that is installed can

    def refuses(_):
        raise ValueError("You may have set num_mel_bins too large.")

    monkeypatch.setattr(audio.knf, "OnlineFbank", refuses)
    with pytest.raises(ValueError, match=r"fbank 1\.\d.* \(You may .*pip install 'kaldi-native-fbank>=1.22,<1.23'"):
        audio.check_library()
    assert build.main(["--corpus", "demo", "--root", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "every clip would lose its sound" in capsys.readouterr().err
