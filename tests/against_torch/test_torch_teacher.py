"""Teachers through PyTorch: a PE-AV of random weights end to end, and ImageBind's flow with a stand-in.

The real ImageBind (package and weights) and PE-AV's published weights were out of reach. PE-AV is transformers' own
model, saved and loaded as the hub's; its picture tower is timm's where timm is installed, else a ViT of transformers.
ImageBind is a stand-in of the same call signature: the flow is tested, not the model.
"""

import importlib.util
import json
import pickle
import textwrap

import numpy as np
import pytest
from helpers import media

from data_prep.commands import teach
from data_prep.corpora import CORPORA
from data_prep.runners import Here
from data_prep.teachers import ImageBind, PeAv, imagebind, sampling, vectors

torch = pytest.importorskip("torch", reason="needs the torch extra")

# ---------------------------------------------------------------- ImageBind

STAND_IN = """
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vision, self.audio = torch.nn.Linear(3, 1024), torch.nn.Linear(128, 1024)

        def forward(self, inputs):
            out = {}
            for kind, x in inputs.items():
                clips = x.ndim == 5  # several clips of one sound, as in ImageBind's forward
                batch = x.shape[0]
                x = x.reshape(-1, *x.shape[2:]) if clips else x
                x = self.vision(x.mean((2, 3))) if kind == "vision" else self.audio(x[:, 0].mean(2))
                x = torch.nn.functional.normalize(x, dim=-1) * (20 if kind == "audio" else 1)
                out[kind] = x.reshape(batch, -1, 1024).mean(1) if clips else x
            return out

    def imagebind_huge(pretrained):
        assert not pretrained  # nothing is downloaded
        return Model()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> ImageBind:
    package = tmp_path / "site" / "imagebind" / "models"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "imagebind_model.py").write_text(textwrap.dedent(STAND_IN))
    monkeypatch.syspath_prepend(tmp_path / "site")
    from imagebind.models import imagebind_model

    torch.manual_seed(0)
    torch.save(imagebind_model.Model().state_dict(), tmp_path / "weights.pth")
    return ImageBind(str(tmp_path / "weights.pth"))


def test_imagebind_means_over_frames_and_clips(stand_in, tmp_path):
    stand_in.check()
    path = media.write_media(tmp_path / "a.mp4", [media.numbered(k) for k in range(40)], sound=media.tone(16000, 5))
    pictures = sampling.evenly_spaced(path, stand_in.frames, stand_in.fit)
    sounds = sampling.sounds(path, stand_in.sample_rate, stand_in.hears)
    assert len(pictures) == 32 and pictures[0].shape == (224, 224, 3)
    found = stand_in.embed(pictures, sounds)
    weights = torch.load(stand_in.weights)

    def unit(kind: str, values: np.ndarray) -> np.ndarray:
        values = values @ weights[f"{kind}.weight"].numpy().T + weights[f"{kind}.bias"].numpy()
        return values / np.linalg.norm(values, axis=-1, keepdims=True)

    seen = unit("vision", imagebind.picture_input(pictures).mean((2, 3))).mean(0)
    heard = 20 * unit("audio", imagebind.sound_input(sounds)[:, 0].mean(2)).mean(0)
    np.testing.assert_allclose(found.picture, seen, atol=1e-5)
    np.testing.assert_allclose(found.sound, heard, atol=1e-4)
    assert found.picture.dtype == found.sound.dtype == np.float32
    assert stand_in.embed(pictures, None).sound is None


def test_a_teacher_that_has_loaded_its_model_travels_without_it(stand_in):
    stand_in.embed([np.zeros((224, 224, 3), np.uint8)], None)
    assert len(pickle.dumps(stand_in)) < 1000 and pickle.loads(pickle.dumps(stand_in)) == stand_in


def test_weights_that_are_not_there(stand_in):
    with pytest.raises(ValueError, match=r"none: no such file; it should be imagebind_huge\.pth"):
        ImageBind("none").check()


# ---------------------------------------------------------------- PE-AV


@pytest.fixture(scope="module")
def pe_av(tmp_path_factory):
    """A small PE-AV of random weights in a folder, with the files of the published ones beside it."""
    from transformers import PeAudioFeatureExtractor, PeAudioVideoConfig, PeAudioVideoModel, ViTConfig
    from transformers.configuration_utils import SubConfigSpec
    from transformers.models.pe_video.configuration_pe_video import PeVideoEncoderConfig

    kinds = PeVideoEncoderConfig.sub_configs_defaults
    timm_tower = kinds["vision_config"]
    if importlib.util.find_spec("timm"):
        tower = {"architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 24, "do_pooling": True}
        sizes = {
            "img_size": 28,
            "patch_size": 14,
            "depth": 1,
            "embed_dim": 16,
            "num_heads": 2,
            "ref_feat_shape": (2, 2),
        }
        tower |= {"global_pool": "map", "model_args": sizes}
    else:
        kinds["vision_config"] = SubConfigSpec(config_class=ViTConfig)
        tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        tower |= {"image_size": 28, "patch_size": 14, "num_labels": 24}
    small = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    text = {"model_type": "modernbert", "hidden_size": 1024, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": 50}
    text |= {f"{name}_token_id": k for k, name in enumerate(("pad", "bos", "eos", "cls", "sep"))}
    dac = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 8, 10, 12], "codebook_dim": 8}
    audio = {"model_type": "pe_audio_encoder", "dac_config": dac | {"hidden_size": 64}, **small}
    video = {"model_type": "pe_video_encoder", "vision_config": tower, **small}
    config = PeAudioVideoConfig(
        text_config=text, audio_video_config={"audio_config": audio, "video_config": video, **small}
    )
    folder = tmp_path_factory.mktemp("pe_av")
    torch.manual_seed(0)
    PeAudioVideoModel(config).save_pretrained(folder)
    picture = {"size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "num_frames": None}
    (folder / "processor_config.json").write_text(
        json.dumps({"feature_extractor": PeAudioFeatureExtractor().to_dict(), "video_processor": picture})
    )
    yield PeAv(str(folder))
    kinds["vision_config"] = timm_tower


def test_pe_av_writes_what_the_model_says(pe_av, tmp_path):
    """Through the command's own path, against the model's joint call on inputs made here."""
    splits = {"train": ["video0", "video1"], "val": ["video2"], "test": ["video3"]}
    root = media.write_corpus(tmp_path / "root", splits, missing=["video1", "video2", "video3"])
    media.write_media(root / "VideoData" / "video1.mp4", [media.numbered(3)] * 4)
    folder = str(root / "FeatureData" / "PE-AV")
    teach.claim(folder, pe_av)
    samples = teach.read_samples(CORPORA["demo"], str(root), ["train"])
    assert teach.teach(teach.Teach(pe_av, folder), samples, Here()) == ({}, {})
    found = {sample.id: sample for sample in CORPORA["demo"].read(str(root), teacher="PE-AV")["train"]}
    assert found["video1"].teacher_audio is None and found["video1"].teacher_video

    from transformers import PeAudioVideoModel

    model = PeAudioVideoModel.from_pretrained(pe_av.path).eval()
    pictures = sampling.evenly_spaced(samples[0].video, 32, pe_av.fit)
    assert len(pictures) == 10 and pictures[0].shape == (28, 28, 3)  # the video has ten frames
    pixels = torch.tensor(np.stack(pictures).transpose(0, 3, 1, 2)[None] / 127.5 - 1, dtype=torch.float32)
    [sound] = sampling.sounds(samples[0].video, 48000, pe_av.hears)
    sound = np.pad(sound, (0, -len(sound) % 1920), "reflect")
    with torch.no_grad():
        both = model.get_audio_video_embeds(
            torch.tensor(sound)[None, None], pixels, return_audio_embeds=True, return_video_embeds=True
        )
    seen, heard = (vectors.read_vector(p) for p in (found["video0"].teacher_video, found["video0"].teacher_audio))
    np.testing.assert_allclose(seen, both.video_embeds[0], atol=1e-4)
    np.testing.assert_allclose(heard, both.audio_embeds[0], atol=1e-4)


def test_pe_av_takes_the_number_of_frames_of_its_checkpoint(pe_av, tmp_path):
    assert pe_av.frames == 32 and pe_av.settings["size"] == {"height": 28, "width": 28}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"num_frames": 16, "size": {}}))
    assert PeAv(str(tmp_path)).frames == 16
    with pytest.raises(ValueError, match=r"holds no config\.json; it should be a checkpoint of PE-AV"):
        PeAv(str(tmp_path))._read("config.json")
