"""What a compiled program holds, read from its optimised text: collectives, products, kernels, cycles by part."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# Names of modules in an instruction's op_name → part of the model; the first that occurs.
PARTS = ("ast", "resampler", "audio_fusion", "speech_fusion", "vision", "text", "encoder", "decoder")
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`name = type opcode(operands), attributes`."""

    name: str
    type: str
    opcode: str
    rest: str

    @property
    def operation(self) -> str:
        """The path of modules and primitives that it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def operands(self) -> list[str]:
        """Names of what it is computed from."""
        return re.findall(r"%([\w.-]+)", self.rest[self.rest.index("(") : self.rest.index(")")])

    def calls(self, attribute: str) -> list[str]:
        """Names of the computations in an attribute such as `calls`, `body` or `to_apply`."""
        return re.findall(rf"\b{attribute}=\{{?%?([\w.-]+)", self.rest)


@dataclasses.dataclass
class Program:
    """What a program does each time it runs, loops counted."""

    collectives: dict[str, dict]  # kind → {"count", "bytes", "types": {dtype: bytes}}, bytes of the whole array
    products: dict[str, float]  # "bf16·bf16" → operations, of products whose operands have these types
    kernels: dict[str, int]  # target of a custom call → calls
    instructions: int  # in all computations
    cycles: float  # by the compiler's cost model, where it has one
    by_part: dict[str, float]  # part → share of the cycles


def read(text: str) -> Program:
    """Reads the optimised HLO of a program (`compiled.as_text()`)."""
    return _Reader(text).program()


def _array_size(dtype: str, dims: str) -> int:
    return _elements(dims) * _SIZES.get(dtype, 4)


def _elements(dims: str) -> int:
    count = 1
    for length in filter(None, dims.split(",")):
        count *= int(length)
    return count


class _Reader:
    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self.computations.setdefault(head[2], [])
                self.entry = head[2] if head[1] else self.entry
            elif found := _LINE.match(line):
                current.append(Instruction(found[1], *_type_and_rest(found[2])))

    def program(self) -> Program:
        collectives: dict[str, dict] = {}
        kernels, by_part = collections.Counter(), collections.Counter()
        products: dict[str, float] = collections.defaultdict(float)
        cycles, seen = 0.0, set()
        for computation, one, times in self._run(self.entry, 1):
            kind = one.opcode.removesuffix("-start")
            channel = re.search(r"channel_id=(\d+)", one.rest)
            # A TPU's compiler writes one collective several times, into what runs meanwhile.
            if kind in COLLECTIVES and (key := (kind, channel[1] if channel else one.name)) not in seen:
                seen.add(key)
                if computation.startswith("all-reduce-scatter"):  # how a TPU's compiler fuses one
                    kind = "reduce-scatter"
                row = collectives.setdefault(kind, {"count": 0, "bytes": 0.0, "types": {}})
                row["count"] += times
                for dtype, dims in _ARRAY.findall(self._whole(computation, one)):
                    size = times * _array_size(dtype, dims)
                    row["bytes"] += size
                    row["types"][dtype] = row["types"].get(dtype, 0) + size
            if one.opcode in ("dot", "convolution") and (operations := self._operations(computation, one)):
                products["·".join(self._types(computation, one))] += times * operations
            if target := re.search(r'custom_call_target="([^"]+)"', one.rest):
                kernels[target[1]] += times
            if estimated := re.search(r'estimated_cycles":"(\d+)"', one.rest):
                count = int(estimated[1])
                if count < 1 << 50:  # what the compiler does not know
                    cycles += times * count
                    by_part[part_of(one.operation)] += times * count
        return Program(
            collectives,
            dict(products),
            dict(kernels),
            sum(map(len, self.computations.values())),
            cycles,
            {part: count / cycles for part, count in by_part.most_common()} if cycles else {},
        )

    def _run(self, computation: str, times: int) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, how often it runs) of a computation and all that it calls."""
        for one in self.computations.get(computation, []):
            yield computation, one, times
            inner = times
            if one.opcode == "while":
                inner *= self._trips(one)
                called = one.calls("body")
            elif one.opcode == "conditional":
                called = [x for name in ("true_computation", "false_computation") for x in one.calls(name)]
                if branches := re.search(r"branch_computations=\{([^}]*)\}", one.rest):
                    called += re.findall(r"%([\w.-]+)", branches[1])
            elif one.opcode in ("fusion", "call", "async-start"):
                called = [x for name in ("calls", "to_apply", "called_computations") for x in one.calls(name)]
            else:  # what reductions and sorts apply to elements
                called = []
            for name in called:
                yield from self._run(name, inner)

    def _whole(self, computation: str, one: Instruction) -> str:
        """The type of a collective's whole array: what is gathered, or what is reduced before it is split."""
        kind = one.opcode.removesuffix("-start")
        if kind == "reduce-scatter":
            types = self._types_in(computation)
            return " ".join(types.get(name, "") for name in one.operands)
        if kind != "all-reduce" and one.opcode.endswith("-start"):  # (operands, results, …)
            return _elements_of_tuple(one.type)[1]
        return one.type

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs. A TPU's compiler does not say; JAX's loops compare a counter with a constant."""
        if said := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(said[1])
        condition = [one for name in loop.calls("condition") for _, one, _ in self._run(name, 1)]
        return max((int(x) for one in condition for x in re.findall(r"^constant\((\d+)\)", one.rest)), default=1)

    @functools.cache  # noqa: B019 — a reader lives as long as it reads
    def _types_in(self, computation: str) -> dict[str, str]:
        return {one.name: one.type for one in self.computations[computation]}

    def _operands(self, computation: str, one: Instruction) -> list[str]:
        """Types of the two factors of a product."""
        types = self._types_in(computation)
        return [types.get(name, "") for name in one.operands[:2]]

    def _types(self, computation: str, one: Instruction) -> list[str]:
        """Types that the factors are multiplied in."""
        if "algorithm=dot_bf16_bf16_f32" in one.rest:  # they are rounded on their way
            return ["bf16", "bf16"]
        return [(_ARRAY.findall(x) or [("?", "")])[0][0] for x in self._operands(computation, one)]

    def _operations(self, computation: str, one: Instruction) -> float:
        """2 · elements of the result · length of the sum."""
        factors = [found[0] for x in self._operands(computation, one) if (found := _ARRAY.findall(x))]
        if len(factors) < 2 or not (result := _ARRAY.findall(one.type)):
            return 0.0
        left, right = ([int(n) for n in dims.split(",") if n] for _, dims in factors)
        if one.opcode == "dot":
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)
            length = _elements(",".join(str(left[int(axis)]) for axis in axes[1].split(",") if axis)) if axes else 1
        else:
            labels = re.search(r"dim_labels=\w+_(\w+)->", one.rest)
            if not labels:
                return 0.0
            length = right[labels[1].index("i")]
            if window := re.search(r"window=\{([^}]*)\}", one.rest):
                length *= _taps(dict(re.findall(r"(\w+)=([\dx_-]+)", window[1])))
        return 2.0 * _elements(result[0][1]) * length


def _taps(window: dict[str, str]) -> int:
    """Elements of a convolution's window that are summed; a batch axis is written as one with a single tap."""
    sizes = [int(x) for x in window.get("size", "").split("x") if x]
    dilated = [int(x) for x in window.get("lhs_dilate", "x".join("1" * len(sizes))).split("x") if x]
    pads = window.get("pad", "x".join(["0_0"] * len(sizes)))
    padded = [sum(abs(int(n)) for n in pad.split("_")) for pad in pads.split("x") if pad]
    taps = 1
    for size, dilation, padding in zip(sizes, dilated, padded, strict=True):
        taps *= 1 if (dilation > 1 and dilation >= size) or (padding >= 2 * (size - 1) and size > 1) else size
    return taps


def _elements_of_tuple(kind: str) -> list[str]:
    """`((f32[2], u8[]), f32[4])` → its elements at the first level."""
    elements, depth, begin = [], 0, 1
    for at, letter in enumerate(kind):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or (depth == 0 and letter == ")"):
            elements.append(kind[begin:at].strip())
            begin = at + 1
    return elements


def _type_and_rest(text: str) -> tuple[str, str, str]:
    """`(f32[2], u8[]) opcode(operands), …` → type, opcode, the rest from the opcode on."""
    end = 0
    if text.startswith("("):
        depth = 0
        for end, letter in enumerate(text):  # noqa: B007
            depth += (letter == "(") - (letter == ")")
            if not depth:
                break
        end += 1
    else:
        end = text.index(" ") if " " in text else len(text)
    rest = text[end:].strip()
    opcode = re.match(r"([\w-]+)\(", rest)
    return text[:end], opcode[1] if opcode else "?", rest


def part_of(operation: str) -> str:
    """The part of the model that an op_name belongs to, "backward" where it is of its gradient."""
    backward = " backward" if "transpose(" in operation else ""
    for part in PARTS:
        if re.search(rf"[/.(]{part}[/.)]", operation):
            return part + backward
    return "loss" + backward if "jvp" in operation else "optimiser and the rest"
