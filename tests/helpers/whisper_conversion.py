"""A folder of Whisper for CTranslate2 → the same weights in a folder that transformers loads.

The way back from `ctranslate2.converters.TransformersConverter`, so that both engines can be run on one set of weights.
Tensors are written as float32. The layout of model.bin is that of ctranslate2's model_spec.py, version 6.
"""

import json
import pathlib
import re
import shutil
import struct
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save_file

_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
_MULTILINGUAL = 51865  # tokens of the smallest vocabulary with more than English
# CTranslate2's parts of a layer → transformers'.
_NORMS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
}
_LINEAR = {
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_JOINED = {"self_attention/linear_0": ("self_attn", "qkv"), "attention/linear_1": ("encoder_attn", "kv")}


def read_variables(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Name → tensor of a model.bin. Raises ValueError for another model than Whisper."""
    with open(path, "rb") as file:
        _number(file, "I")
        if (kind := _text(file)) != "WhisperSpec":
            raise ValueError(f"{path} holds a {kind}, not a WhisperSpec")
        _number(file, "I")
        variables = {}
        for _ in range(_number(file, "I")):
            name = _text(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            kind = _TYPES[_number(file, "B")]
            variables[name] = np.frombuffer(file.read(_number(file, "I")), kind).reshape(shape)
        return variables


def _number(file: BinaryIO, kind: str) -> int:
    return struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()


def convert(source: pathlib.Path, folder: pathlib.Path) -> str:
    """Writes `folder` and returns its path. Raises ValueError for weights in int8 and for other models."""
    variables, settings = read_variables(source / "model.bin"), json.loads((source / "config.json").read_text())
    if scaled := [name for name in variables if name.endswith("weight_scale")]:
        raise ValueError(f"{source} is quantised ({scaled[0]}); give a model of float16 or float32")
    tokens = {token["content"]: token["id"] for token in _json(source / "tokenizer.json")["added_tokens"]}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_renamed(variables), folder / "model.safetensors", metadata={"format": "pt"})
    ends = {name: tokens["<|endoftext|>"] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    starts = {"decoder_start_token_id": tokens["<|startoftranscript|>"]}
    _write(folder / "config.json", _sizes(variables) | ends | starts)
    _write(folder / "generation_config.json", _generation(settings, tokens, len(_embedding(variables))) | ends | starts)
    mels = variables["encoder/conv1/weight"].shape[1]
    extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels, "sampling_rate": 16000}
    _write(folder / "preprocessor_config.json", extractor | {"hop_length": 160, "chunk_length": 30, "n_fft": 400})
    shutil.copy(source / "tokenizer.json", folder)
    names = {f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk", "pad")}
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "WhisperTokenizer"} | names)
    return str(folder)


def _renamed(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}

    def put(name: str, values: np.ndarray) -> None:
        made[f"model.{name}"] = np.ascontiguousarray(values, np.float32)

    def linear(name: str, theirs: str) -> None:
        put(f"{theirs}.weight", variables[f"{name}/weight"])
        put(f"{theirs}.bias", variables[f"{name}/bias"])

    def norm(name: str, theirs: str) -> None:
        put(f"{theirs}.weight", variables[f"{name}/gamma"])
        put(f"{theirs}.bias", variables[f"{name}/beta"])

    linear("encoder/conv1", "encoder.conv1")
    linear("encoder/conv2", "encoder.conv2")
    put("decoder.embed_tokens.weight", _embedding(variables))
    for side in ("encoder", "decoder"):
        put(f"{side}.embed_positions.weight", variables[f"{side}/position_encodings/encodings"])
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for number in range(_layers(variables, side)):
            layer, theirs = f"{side}/layer_{number}", f"{side}.layers.{number}"
            for part, name in _NORMS.items():
                if f"{layer}/{part}/gamma" in variables:
                    norm(f"{layer}/{part}", f"{theirs}.{name}")
            for part, name in _LINEAR.items():
                if f"{layer}/{part}/weight" in variables:
                    linear(f"{layer}/{part}", f"{theirs}.{name}")
            for part, (attention, letters) in _JOINED.items():
                if f"{layer}/{part}/weight" not in variables:
                    continue
                weights = np.split(variables[f"{layer}/{part}/weight"], len(letters))
                biases = np.split(variables[f"{layer}/{part}/bias"], len(letters))
                for letter, weight, bias in zip(letters, weights, biases, strict=True):
                    put(f"{theirs}.{attention}.{letter}_proj.weight", weight)
                    if letter == "k":
                        assert not bias.any(), "Whisper's keys have no bias"
                    else:
                        put(f"{theirs}.{attention}.{letter}_proj.bias", bias)
    return made


def _sizes(variables: dict[str, np.ndarray]) -> dict[str, Any]:
    vocabulary, width = _embedding(variables).shape
    made = {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": width}
    made |= {"vocab_size": vocabulary, "num_mel_bins": variables["encoder/conv1/weight"].shape[1]}
    for side, name in (("encoder", "max_source_positions"), ("decoder", "max_target_positions")):
        made[f"{side}_layers"] = _layers(variables, side)
        made[f"{side}_attention_heads"] = int(variables[f"{side}/num_heads"])
        made[f"{side}_ffn_dim"] = len(variables[f"{side}/layer_0/ffn/linear_0/weight"])
        made[name] = len(variables[f"{side}/position_encodings/encodings"])
    return made


def _generation(settings: dict, tokens: dict[str, int], vocabulary: int) -> dict[str, Any]:
    made = {
        "alignment_heads": settings["alignment_heads"],
        "suppress_tokens": settings["suppress_ids"],
        "begin_suppress_tokens": settings["suppress_ids_begin"],
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "is_multilingual": vocabulary >= _MULTILINGUAL,
    }
    if made["is_multilingual"]:
        made["lang_to_id"] = {token: number for token, number in tokens.items() if _LANGUAGE.fullmatch(token)}
        made["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return made


def _embedding(variables: dict[str, np.ndarray]) -> np.ndarray:
    return variables["decoder/embeddings/weight"]


def _layers(variables: dict[str, np.ndarray], side: str) -> int:
    return 1 + max(int(match[1]) for name in variables if (match := re.match(rf"{side}/layer_(\d+)/", name)))


def _json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
